/**
 * `metafile.yml` in OpenMMLab's model-index form, and the table of a model zoo's README.
 *
 * @see mmpretrain `configs/beit/metafile.yml`, `configs/beit/README.md`
 */
import { stringify } from 'yaml';
import { addressOf, factsOf } from './facts.js';
import { PAPERS } from './papers.js';
import { resolveTask } from '../task.js';
import type { ReleasedItem } from './record.js';

const CODE = {
  1: 'https://github.com/microsoft/unilm/tree/master/beit',
  2: 'https://github.com/microsoft/unilm/tree/master/beit2',
} as const;

const ARCHITECTURE = [
  'Attention Dropout',
  'Convolution',
  'Dense Connections',
  'Dropout',
  'GELU',
  'Layer Normalization',
  'Multi-Head Attention',
  'Scaled Dot-Product Attention',
  'Tanh Activation',
];

const COLLECTION = { 1: 'BEiT', 2: 'BEiTv2' } as const;

/** @param items in the order in which they are listed */
export function metafile(items: readonly ReleasedItem[]): string {
  const versions = [...new Set(items.map(versionOf))].sort();
  const document = {
    Collections: versions.map((version) => ({
      Name: COLLECTION[version],
      Metadata: { Architecture: ARCHITECTURE },
      Paper: { Title: PAPERS[version].title, URL: PAPERS[version].url },
      README: 'README.md',
      Code: { URL: CODE[version] },
    })),
    Models: items.map((released) => modelEntry(released)),
  };
  return stringify(document, { lineWidth: 0, aliasDuplicateObjects: false });
}

function versionOf({ item, source }: ReleasedItem): 1 | 2 {
  return factsOf(item, source.version).version ?? 1;
}

function modelEntry(released: ReleasedItem): Record<string, unknown> {
  const { item, source, models } = released;
  const facts = factsOf(item, source.version);
  const version = versionOf(released);
  const metrics = {
    ...(facts.top1 !== undefined && { 'Top 1 Accuracy': facts.top1 }),
    ...(facts.top5 !== undefined && { 'Top 5 Accuracy': facts.top5 }),
  };
  return {
    Name: item.name,
    Metadata: {
      FLOPs: source.flops,
      Parameters: source.parameters,
      // As OpenMMLab writes it: one is not a list.
      'Training Data':
        facts.trainingData.length > 1 ? facts.trainingData : (facts.trainingData[0] ?? undefined),
    },
    'In Collection': COLLECTION[version],
    Results:
      Object.keys(metrics).length === 0
        ? null
        : [
            {
              Dataset: 'ImageNet-1k',
              Task: 'Image Classification',
              Metrics: metrics,
              // Not measured on these files: what the authors published for the weights.
              Source: 'published',
            },
          ],
    Weights:
      models.length === 1
        ? pathOf(item.name, models[0].path)
        : models.map(({ path }) => pathOf(item.name, path)),
    Config: pathOf(item.name, 'config.json'),
    'Converted From': {
      Weights: item.converted_from ?? addressOf(source.id) ?? source.id,
      Code: CODE[version],
    },
  };
}

const pathOf = (name: string, path: string): string => `${name}/${path}`;

const SECTIONS: readonly (readonly [task: string, title: string])[] = [
  ['classify', 'Image classification'],
  ['segment', 'Semantic segmentation'],
  ['masked-image', 'Masked image modelling: the pre-trained models'],
  ['features', 'Features'],
];

/** The README of a release: OpenMMLab's columns, one row a model, a table for each task. */
export function readmeTable(name: string, items: readonly ReleasedItem[]): string {
  const tables = SECTIONS.flatMap(([task, title]) => {
    const own = items.filter((released) => taskOf(released) === task);
    return own.length === 0 ? [] : [{ title, lines: tableOf(own) }];
  });
  return [
    `# ${name}`,
    '',
    'BEiT models in ONNX. Accuracies are the published ones of the weights, on ImageNet-1k; every file was checked',
    'against the checkpoint it came from (`parity.json` in its folder). `sha256sum -c SHA256SUMS` checks the download.',
    ...tables.flatMap(({ title, lines }) => [
      '',
      // One table needs no heading.
      ...(tables.length > 1 ? [`## ${title}`, ''] : []),
      ...lines,
    ]),
    '',
  ].join('\n');
}

function taskOf({ item, source }: ReleasedItem): string {
  return resolveTask(source.config, { task: item.task }).name;
}

function tableOf(items: readonly ReleasedItem[]): string[] {
  const rows = items.map((released) => {
    const { item, source, models } = released;
    const facts = factsOf(item, source.version);
    const percent = (value: number | undefined): string => (value === undefined ? '-' : value.toFixed(2));
    return [
      `[${item.name}](${item.name}/)`,
      facts.pretrain ?? '-',
      (source.parameters / 1e6).toFixed(2),
      (source.flops / 1e9).toFixed(2),
      percent(facts.top1),
      percent(facts.top5),
      models.map(({ path, dtype }) => `[${dtype}](${item.name}/${path})`).join(' \\| '),
    ];
  });
  const heads = ['Model', 'Pretrain', 'Params(M)', 'Flops(G)', 'Top-1 (%)', 'Top-5 (%)', 'Download'];
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = heads.map((_, i) => (i < 2 || i === heads.length - 1 ? ':--' : '--:'));
  return [heads, rule, ...rows].map(line);
}
