/** The model card: `README.md` of a released folder, with the front matter that the hub reads. */
import { stringify } from 'yaml';
import type { BeitConfig } from '../beit.js';
import { formatBytes } from '../bytes.js';
import type { Preprocessing } from '../image.js';
import { addressOf, factsOf, hubDatasets, type Facts } from './facts.js';
import type { ReleaseItem } from './manifest.js';
import { PAPERS } from './papers.js';
import { modelPath } from './plan.js';
import type { ReleasedModel } from './record.js';
import type { SourceSummary } from '../results.js';
import { isClientTask, snippets } from './snippets.js';

export interface CardInput {
  readonly item: ReleaseItem;
  readonly source: SourceSummary;
  readonly models: readonly ReleasedModel[];
  /** where it will be on the hub, if it will */
  readonly repo?: string;
  readonly labels?: readonly string[];
  readonly toolVersion: string;
  /** of the models, in their order */
  readonly outputs: readonly string[];
  /** the parity plot lies beside the card */
  readonly plot: boolean;
}

const PIPELINE_TAG: Readonly<Record<string, string>> = {
  classify: 'image-classification',
  features: 'image-feature-extraction',
  'masked-image': 'image-feature-extraction',
  segment: 'image-segmentation',
};

/** @see https://huggingface.co/docs/hub/model-cards#model-card-metadata for the front matter */
export function modelCard(input: CardInput): string {
  const { item, source } = input;
  const facts = factsOf(item, source.version, source.config.classes);
  const version = facts.version ?? 1;
  return [
    `---\n${frontMatter(input, facts)}---`,
    `# ${facts.title}`,
    introduction(input, facts),
    filesSection(input),
    input.models.every(({ parity }) => parity.verdict === 'skipped') ? unverified : paritySection(input),
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
  const datasets = item.datasets ?? hubDatasets(facts.trainingData);
  return stringify(
    {
      ...(item.license !== undefined && { license: item.license }),
      library_name: isFound(models) && isClientTask(task) ? 'transformers.js' : 'onnx',
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
      ...(datasets.length > 0 && { datasets: [...datasets] }),
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

const DOES: Readonly<Record<string, (config: BeitConfig) => string>> = {
  classify: ({ classes }) => `It tells ${classes.toLocaleString('en-US')} classes apart`,
  features: () => 'It turns a picture into features, for a head of your own',
  'masked-image': ({ vocabulary }) =>
    `It is the pre-trained model: for hidden patches it predicts visual words, of ${vocabulary.toLocaleString('en-US')}; a head for a task of its own is what fine-tuning adds`,
  segment: ({ classes }) =>
    `It tells ${classes.toLocaleString('en-US')} classes apart, for every fourth pixel each way`,
};

function introduction({ item, source, toolVersion }: CardInput, facts: Facts): string {
  const version = facts.version ?? 1;
  const { config } = source;
  const data = facts.trainingData.length > 0 ? ` It was trained on ${facts.trainingData.join(' and ')}.` : '';
  const from = source.files.map(
    ({ name, sha256 }) => `\`${name}\`${sha256 === undefined ? '' : ` (sha256 \`${sha256}\`)`}`,
  );
  const { labels } = source;
  const names = labels ? ` Class names are from \`${labels.origin.replaceAll('`', '')}\`.` : '';
  const address = addressOf(source.id);
  const where = address === undefined ? '' : ` of <${address}>`;
  const resized = source.resized
    ? ' Its position tables were resized; accuracies published for the original size do not hold for it.'
    : '';
  return `BEiT${version === 2 ? ' v2' : ''} ([${PAPERS[version].title}](${PAPERS[version].url})) in ONNX. ${DOES[item.task ?? 'classify'](config)}. It sees ${config.imageSize.join('×')} pixels in patches of ${config.patchSize}; ${amount(source.parameters, 1e6)} M parameters, ${amount(source.flops, 1e9)} G multiply-accumulates.${data}

Converted from ${from.join(', ')}${where} by convert-beit ${toolVersion}. The weights are the ones found there; nothing was trained or tuned.${resized}${names}`;
}

/** Two digits that say something, also of a tiny model. */
function amount(value: number, unit: number): string {
  const scaled = value / unit;
  return scaled >= 1 ? scaled.toFixed(1) : scaled.toPrecision(2);
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

const unverified = '## Parity\n\nThese files were not verified (`--no-verify`).';

function paritySection({ item, models, plot }: CardInput): string {
  const measured = (item.task ?? 'classify') === 'features' ? 'outputs' : 'logits';
  // Which class is best is asked of classifiers.
  const ranked = models.some(({ parity }) => parity.top1Agreement !== undefined);
  const number = (value: number | undefined, digits: (value: number) => string): string =>
    value === undefined ? '-' : digits(value);
  const rows = models.map(
    ({ path, parity }) =>
      `| \`${path}\` | ${parity.verdict} | ${number(parity.maxAbs, (v) => v.toExponential(1))} | ${number(parity.cosine, (v) => v.toFixed(7))} |${ranked ? ` ${number(parity.top1Agreement, percent)} | ${number(parity.top5Agreement, percent)} |` : ''}`,
  );
  return [
    '## Parity',
    '',
    'Every file was run in ONNX Runtime and compared with a float64 computation from the original weights, on the same inputs.',
    '',
    `| File | Verdict | Max. abs. difference of ${measured} | Cosine |${ranked ? ' Same top-1 | Same top-5 |' : ''}`,
    `| :-- | :-- | --: | --: |${ranked ? ' --: | --: |' : ''}`,
    ...rows,
    ...(plot
      ? ['', `![Difference of the ${measured} from the float64 reference, file by file](parity.svg)`]
      : []),
    '',
    'Details: [`parity.html`](parity.html), [`parity.json`](parity.json).',
  ].join('\n');
}

const percent = (value: number): string => `${(value * 100).toFixed(0)} %`;

/** Its names for files are fixed: dated ones transformers.js does not find. */
function isFound(models: readonly ReleasedModel[]): boolean {
  return models.every(({ path, dtype }) => path === modelPath(dtype));
}

function usageSection({ item, models, repo, source, outputs }: CardInput): string {
  const { config, preprocessing } = source;
  // The snippets make three channels.
  if (config.channels !== 3) return '';
  const task = item.task ?? 'classify';
  const model = models.find(({ dtype }) => dtype === 'fp32') ?? models[0];
  const shown = snippets({
    task,
    name: item.name,
    repo,
    file: model.path,
    clientDtype: isFound(models) ? model.dtype : undefined,
    preprocessing,
    outputs,
    ...(task === 'masked-image' && { masked: config.window[0] * config.window[1] }),
  });
  return [
    '## Use',
    ...shown.map(({ title, language, code }) => `### ${title}\n\n\`\`\`${language}\n${code}\n\`\`\``),
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
  const task = item.task ?? 'classify';
  const classes = facts.labelled;
  const knows =
    task === 'classify' || task === 'segment'
      ? ` and knows ${classes === undefined ? 'no classes but its own' : `the classes of ${classes}, with that data's biases`}`
      : '';
  const lines = [
    `- The model sees ${source.config.imageSize.join('×')} pixels of a picture${knows}.`,
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
