/**
 * A model as the stages hand it on: canonical weights, config, and where everything came from.
 */
import type { BeitConfig } from './beit.js';
import type { ByteSource } from './bytes.js';
import type { Preprocessing } from './preprocessing.js';
import type { Resized } from './resizing.js';
import type { StateDict } from './tensor.js';

/** One file that was read. */
export interface SourceFile {
  /** File name without its folder: safe to publish. */
  readonly name: string;
  readonly source: ByteSource;
  /** Lower-case hex, when somebody has vouched for it already (a hub that states it, a cache that checked it). */
  readonly sha256?: string;
}

/** Where the weights came from; goes into the written file's metadata and the report. */
export interface Provenance {
  /** `official:<name>`, `hf:<owner>/<repo>/<file>`, or the local file's name without its folder */
  readonly id: string;
  /** commit the hub revision resolved to */
  readonly commit?: string;
  readonly files: readonly SourceFile[];
  /** `safetensors`, … */
  readonly container: string;
  /** `official`, … */
  readonly layout: string;
  /** key prefix that was stripped, e.g. `module.` */
  readonly prefix?: string;
  /** 1 or 2, when something tells; v1 and v2 classifiers have the same tensors */
  readonly version?: 1 | 2;
  /** what tells the version, one sentence */
  readonly versionEvidence: string;
}

/**
 * What becomes of an image that is no whole number of patches: mmpretrain's code pads it with zeros at the bottom and
 * the right (mmcv `PatchEmbed`); unilm's, timm's and transformers' leave the rest out.
 *
 * @param layout whose weights they are
 */
export function padsImages(layout: string): boolean {
  return layout === 'mmpretrain';
}

export interface BeitModel {
  readonly config: BeitConfig;
  /** exactly `inventory(config)`: canonical names, as read, in the source's own dtype */
  readonly tensors: StateDict;
  /** tensors whose values are not in the source: canonical name → how they were made of it */
  readonly derived?: ReadonlyMap<string, string>;
  /** what it was before it was resized */
  readonly resized?: Resized;
  /** source name of every canonical tensor (`backbone.layers.0.ln1.bias` → `blocks.0.norm1.bias`) */
  readonly sourceNames: ReadonlyMap<string, string>;
  /** tensors of the source that are not weights and are rebuilt: index buffers, by source name */
  readonly buffers: StateDict;
  readonly provenance: Provenance;
  readonly preprocessing: Preprocessing;
  /** class names in order, when the source has them or they were given */
  readonly labels?: readonly string[];
  /** one phrase: where the class names are from; no folder of this machine */
  readonly labelsOrigin?: string;
  /** one sentence per assumption a person should know */
  readonly notes: readonly string[];
  close(): Promise<void>;
}
