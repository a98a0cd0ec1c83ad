/** The model card: `README.md` of a released folder, with the front matter that the hub reads. */
import { stringify } from 'yaml';
import { formatBytes } from '../bytes.js';
import type { Preprocessing } from '../image.js';
import { factsOf, type Facts } from './facts.js';
import type { ReleaseItem } from './manifest.js';
import { PAPERS } from './papers.js';
import { modelPath } from './plan.js';
import type { ReleasedModel } from './record.js';
import type { SourceSummary } from '../results.js';
import { classifySnippets } from './snippets.js';

export interface CardInput {
  readonly item: ReleaseItem;
  readonly source: SourceSummary;
  readonly models: readonly ReleasedModel[];
  /** where it will be on the hub, if it will */
  readonly repo?: string;
  readonly labels?: readonly string[];
  readonly toolVersion: string;
  /** the parity plot lies beside the card */
  readonly plot: boolean;
}

const PIPELINE_TAG: Readonly<Record<string, string>> = {
  classify: 'image-classification',
  features: 'image-feature-extraction',
  'masked-image': 'image-feature-extraction',
  segment: 'image-segmentation',
};

/** It has no BEiT for segmentation, and passes no mask. */
const IN_TRANSFORMERS_JS: ReadonlySet<string> = new Set(['classify', 'features']);

/** @see https://huggingface.co/docs/hub/model-cards#model-card-metadata for the front matter */
export function modelCard(input: CardInput): string {
  const { item, source } = input;
  const facts = factsOf(item, source.version);
  const version = facts.version ?? 1;
  return [
    `---\n${frontMatter(input, facts)}---`,
    `# ${facts.title}`,
    introduction(input, facts),
    filesSection(input),
    paritySection(input),
    usageSection(input),
    preprocessingSection(source.preprocessing),
    accuracySection(facts),
    limitsSection(input, facts),
    `## Citation\n\n\`\`\`bibtex\n${PAPERS[version].bibtex}\n\`\`\``,
  ]
    .filter((section) => section !== '')
    .join('\n\n')
    .concat('\n');
}

function frontMatter({ item, models }: CardInput, facts: Facts): string {
  const task = item.task ?? 'classify';
  return stringify(
    {
      ...(item.license !== undefined && { license: item.license }),
      library_name: isFound(models) && IN_TRANSFORMERS_JS.has(task) ? 'transformers.js' : 'onnx',
      pipeline_tag: PIPELINE_TAG[task],
      ...(facts.baseModel !== undefined && {
        base_model: facts.baseModel,
        // The hub's word for "the same weights in another form", whatever their precision.
        base_model_relation: 'quantized',
      }),
      tags: [
        'onnx',
        'beit',
        'vision',
        ...models.filter(({ dtype }) => dtype !== 'fp32').map(({ dtype }) => dtype),
        ...(item.tags ?? []),
      ],
      ...(item.datasets && { datasets: [...item.datasets] }),
      ...modelIndex(item, facts),
    },
    { lineWidth: 0 },
  );
}

/** Published accuracy, marked as such: nobody measured it on these files. */
function modelIndex(item: ReleaseItem, facts: Facts): Record<string, unknown> {
  const metrics = [
    { type: 'accuracy', name: 'Top 1 Accuracy (as published)', value: facts.top1 },
    { type: 'accuracy', name: 'Top 5 Accuracy (as published)', value: facts.top5 },
  ].filter(({ value }) => value !== undefined);
  if (metrics.length === 0) return {};
  return {
    'model-index': [
      {
        name: item.name,
        results: [
          {
            task: { type: 'image-classification', name: 'Image Classification' },
            dataset: { type: 'imagenet-1k', name: 'ImageNet-1k', split: 'validation' },
            metrics: metrics.map((metric) => ({ ...metric, verified: false })),
          },
        ],
      },
    ],
  };
}

function introduction({ source, toolVersion }: CardInput, facts: Facts): string {
  const version = facts.version ?? 1;
  const { config } = source;
  const data = facts.trainingData.length > 0 ? `, trained on ${facts.trainingData.join(' and ')}` : '';
  const from = source.files.map(
    ({ name, sha256 }) => `\`${name}\`${sha256 === undefined ? '' : ` (sha256 \`${sha256}\`)`}`,
  );
  const { labels } = source;
  const names = labels ? ` Class names are from \`${labels.origin.replaceAll('`', '')}\`.` : '';
  return `[${PAPERS[version].title}](${PAPERS[version].url}), converted to ONNX: BEiT${version === 2 ? ' v2' : ''}, ${config.imageSize.join('×')} pixels, patches of ${config.patchSize}, ${(source.parameters / 1e6).toFixed(1)} M parameters, ${(source.flops / 1e9).toFixed(1)} G multiply-accumulates${data}.

Converted from \`${source.id}\`${source.commit === undefined ? '' : ` at commit \`${source.commit}\``}, file ${from.join(', ')}, by convert-beit ${toolVersion}. The weights are the authors' own; nothing was trained or tuned.${names}`;
}

function filesSection({ models }: CardInput): string {
  const rows = models.map(
    ({ path, dtype, bytes, sha256 }) =>
      `| [\`${path}\`](${path}) | ${dtype} | ${formatBytes(bytes)} | \`${sha256}\` |`,
  );
  return [
    '## Files',
    '',
    '| File | Precision | Size | SHA-256 |',
    '| :-- | :-- | --: | :-- |',
    ...rows,
    '',
    '`sha256sum -c SHA256SUMS` checks all of them.',
  ].join('\n');
}

function paritySection({ models, plot }: CardInput): string {
  const number = (value: number | undefined, digits: (value: number) => string): string =>
    value === undefined ? '-' : digits(value);
  const rows = models.map(
    ({ path, parity }) =>
      `| \`${path}\` | ${parity.verdict} | ${number(parity.maxAbs, (v) => v.toExponential(1))} | ${number(parity.cosine, (v) => v.toFixed(7))} | ${number(parity.top1Agreement, percent)} | ${number(parity.top5Agreement, percent)} |`,
  );
  return [
    '## Parity',
    '',
    'Every file was run in ONNX Runtime and compared with a float64 computation from the original weights, on the same inputs.',
    '',
    '| File | Verdict | Max abs. difference of logits | Cosine | Same top-1 | Same top-5 |',
    '| :-- | :-- | --: | --: | --: | --: |',
    ...rows,
    ...(plot ? ['', '![Difference of the logits from the float64 reference, file by file](parity.svg)'] : []),
    '',
    'Details: [`parity.json`](parity.json).',
  ].join('\n');
}

const percent = (value: number): string => `${(value * 100).toFixed(0)} %`;

/** Its names for files are fixed: dated ones transformers.js does not find. */
function isFound(models: readonly ReleasedModel[]): boolean {
  return models.every(({ path, dtype }) => path === modelPath(dtype));
}

function usageSection({ item, models, repo, source }: CardInput): string {
  if ((item.task ?? 'classify') !== 'classify') return '';
  const model = models.find(({ dtype }) => dtype === 'fp32') ?? models[0];
  const snippets = classifySnippets({
    repo: repo ?? item.name,
    file: model.path,
    dtype: model.dtype,
    preprocessing: source.preprocessing,
  });
  return [
    '## Use',
    ...snippets
      .filter(({ title }) => isFound(models) || title !== 'transformers.js')
      .map(({ title, language, code }) => `### ${title}\n\n\`\`\`${language}\n${code}\n\`\`\``),
  ].join('\n\n');
}

function preprocessingSection({ resize, crop, interpolation, mean, std, origin }: Preprocessing): string {
  const resized =
    typeof resize === 'number' ? `short side to ${resize} pixels` : `to ${resize.join('×')} pixels`;
  return `## Preprocessing

Resize ${resized} (${interpolation}), centre crop ${crop.join('×')}, divide by 255, subtract mean ${mean.join(', ')}, divide by std ${std.join(', ')}; RGB, channels first. This is the ${origin}.`;
}

function accuracySection(facts: Facts): string {
  if (facts.top1 === undefined) return '';
  const top5 = facts.top5 === undefined ? '' : `, top-5 ${facts.top5} %`;
  return `## Accuracy

ImageNet-1k validation, **as published by the authors** for these weights: top-1 ${facts.top1} %${top5}. It was not measured again on the files here; lower precisions lose a little.`;
}

function limitsSection({ item, models, source }: CardInput, facts: Facts): string {
  const lines = [
    `- The model sees ${source.config.imageSize.join('×')} pixels of a photograph${facts.trainingData.length > 0 ? ` and knows the classes of ${facts.trainingData.at(-1)}, with that data's biases` : ''}.`,
    ...(models.some(({ dtype }) => dtype !== 'fp32')
      ? [
          '- Quantised files differ from the original by more than rounding: see the table above, and measure on your own images.',
        ]
      : []),
    ...(item.license === undefined
      ? ['- The licence of the weights is their authors’: see where they come from.']
      : [`- Licence: ${item.license}.`]),
  ];
  return `## Limits and licence\n\n${lines.join('\n')}`;
}
