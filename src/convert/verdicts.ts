/**
 * What cannot be read off tensors, judged from what is said about them; and what a person should know.
 */
import type { BeitConfig } from '../beit.js';
import { listNames } from '../errors.js';
import type { ConfigHints } from '../infer-config.js';
import type { ModelInfo } from './config-fields.js';
import type { StateDict } from '../tensor.js';
import type { AppliedLayout } from './layout.js';

export interface VersionVerdict {
  readonly version?: 1 | 2;
  /** one sentence */
  readonly versionEvidence: string;
}

/** One sentence per thing that is true of this layout or this network and may surprise. */
export function worthKnowing(applied: AppliedLayout, config: BeitConfig, hints: ConfigHints): string[] {
  const notes: string[] = [];
  for (const [what, names] of applied.leftOut) {
    notes.push(`left out: ${what}, ${names.length.toLocaleString('en-US')} tensors (${listNames(names, 2)})`);
  }
  if (applied.layout.name === 'transformers') {
    if (hints.layerNormEps === undefined) {
      notes.push(
        'no config.json tells layer_norm_eps: 1e-6 assumed, as in the official code; configs published for transformers say 1e-12 (--config)',
      );
    }
    if (config.window[0] !== config.window[1] && (config.relativePosition || config.sharedRelativePosition)) {
      notes.push(
        'the image is not square: transformers itself swaps the sides of its position tables and computes something else; the official network is converted',
      );
    }
  }
  return [...notes, ...lookalikes(config)];
}

/** Networks that no name or shape tells from a BEiT. */
function lookalikes(config: BeitConfig): string[] {
  if (config.relativePosition || config.sharedRelativePosition || config.layerScale) return [];
  return [
    'no relative positions and no LayerScale: a ViT without qkv bias or an EVA-01 has the same tensors; they are converted as a BEiT',
  ];
}

/** v1 and v2 have the same tensors (but for v2's second output): only what is said about the file tells them apart. */
export function judgeVersion(
  options: Partial<VersionVerdict>,
  given: ModelInfo | undefined,
  sibling: ModelInfo | undefined,
  file: string,
  tensors: StateDict | undefined,
  notes: string[],
): VersionVerdict {
  const byName = /beit[-_]?v?2/i.test(file) ? 2 : /(^|[^a-z])beit([-_]|$)/i.test(file) ? 1 : undefined;
  const verdicts: { version: 1 | 2; versionEvidence: string }[] = [];
  if (options.version !== undefined) {
    verdicts.push({ version: options.version, versionEvidence: options.versionEvidence ?? 'given' });
  }
  for (const info of [given, sibling]) {
    if (info?.version !== undefined) {
      verdicts.push({ version: info.version, versionEvidence: info.versionEvidence ?? 'a config file' });
    }
  }
  if (tensors?.has('neck.patch_aggregation.0.attn.qkv.weight')) {
    verdicts.push({ version: 2, versionEvidence: 'pre-training with a second output, which only v2 has' });
  }
  if (byName !== undefined) verdicts.push({ version: byName, versionEvidence: `the file name ${file}` });
  const [first, ...others] = verdicts;
  if (!first) return { versionEvidence: 'nothing in the file tells v1 from v2' };
  const against = others.find((other) => other.version !== first.version);
  if (against) {
    notes.push(
      `${against.versionEvidence} speaks for v${against.version}; v${first.version} is used (${first.versionEvidence})`,
    );
  }
  return first;
}
