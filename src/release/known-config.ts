/**
 * The architecture of an official checkpoint as its file name tells it, for plans: what is converted is read off the
 * file itself.
 *
 * @see unilm `beit/run_beit_pretraining.py`, `beit2/get_started_for_pretraining.md`,
 *   `beit/semantic_segmentation/configs`, `beit2/semantic_segmentation/configs`
 */
import type { BeitConfig } from '../beit.js';
import { catalog } from '../convert/catalog.js';
import { rowOf } from './facts.js';
import type { ReleaseItem } from './manifest.js';

const NAME = /(beit(?:v2)?)_(base|large)_patch16_(\d{2,4})_([a-z0-9_]+)\.(?:pth|pt|bin|safetensors)$/;
const VISUAL_WORDS = 8192;
const ADE20K_CLASSES = 150;
/** BEiT v2 was fine-tuned on ADE20K at 512 pixels, whatever its file is called. */
const V2_SEGMENTATION_SIDE = 512;

/** `undefined` for a file that nothing is known about. */
export function knownConfig(item: ReleaseItem): BeitConfig | undefined {
  const own = rowOf(item.source)?.config;
  if (own) return own;
  const [, family, architecture, size, training] = NAME.exec(item.source) ?? [];
  if (training === undefined || (item.task !== 'masked-image' && item.task !== 'segment')) return undefined;
  const classifier = catalog().find((row) => row.architecture === architecture)?.config;
  if (!classifier) return undefined;
  const second = family === 'beitv2';
  if (item.task === 'masked-image') return pretrained(classifier, Number(size), second, training);
  const side = second ? V2_SEGMENTATION_SIDE : Number(size);
  return {
    ...classifier,
    ...square(side, classifier.patchSize),
    kind: 'segmentation',
    classes: ADE20K_CLASSES,
    tokenNorm: false,
    pooledNorm: false,
    segmentation: { poolScales: [1, 2, 3, 6], auxiliaryChannels: 256 },
  };
}

function pretrained(classifier: BeitConfig, side: number, second: boolean, training: string): BeitConfig {
  // The one checkpoint that was pre-trained on ImageNet-1k for 800 epochs is of an earlier design.
  const early = training.includes('800ep');
  return {
    ...classifier,
    ...square(side, classifier.patchSize),
    kind: 'pre-training',
    classes: 0,
    vocabulary: VISUAL_WORDS,
    maskToken: true,
    layerScale: !early,
    absolutePosition: early,
    relativePosition: false,
    sharedRelativePosition: !early,
    // The second output of v2 brings a norm of its own (mmpretrain: the neck's).
    tokenNorm: !second,
    pooledNorm: false,
    pooling: 'class',
    ...(second && {
      clsPretraining: { earlyLayer: classifier.depth - 3, layers: 2, sharedHead: true },
    }),
  };
}

function square(side: number, patchSize: number): Pick<BeitConfig, 'imageSize' | 'window'> {
  const patches = Math.floor(side / patchSize);
  return { imageSize: [side, side], window: [patches, patches] };
}
