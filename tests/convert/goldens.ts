/** Reading `fixtures/goldens`: see fixtures/PROVENANCE.md. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BeitConfig } from '../../src/beit.js';
import type { ConfigHints } from '../../src/infer-config.js';
import { UNPACKED } from '../support/unpack-goldens.js';

const ROOT = fileURLToPath(new URL('../../fixtures/goldens/', import.meta.url));

interface GoldenConfig {
  version: 1 | 2;
  img: [number, number];
  patch: number;
  embed: number;
  depth: number;
  heads: number;
  classes: number;
  init_values: number;
  abs_pos: boolean;
  rel_pos: boolean;
  shared_rel_pos: boolean;
  mean_pool: boolean;
  qkv_bias: boolean;
  mlp_ratio: number;
  in_chans: number;
}

/** Classifiers that upstream's own code was run on: a config, official weights, outputs. */
export const GOLDEN_CASES = readdirSync(ROOT)
  .filter((name) => /^v[12]_/.test(name))
  .sort();

/** Some are kept as `<file>.br`; tests/support/unpack-goldens.ts has unpacked those. */
export function goldenPath(name: string, file: string): string {
  const path = `${ROOT}${name}/${file}`;
  return existsSync(`${path}.br`) ? join(process.env[UNPACKED]!, name, file) : path;
}

/** The config upstream was built with. */
export function goldenConfig(name: string): BeitConfig {
  const golden = JSON.parse(readFileSync(goldenPath(name, 'config.json'), 'utf8')) as GoldenConfig;
  const { img, patch } = golden;
  return {
    imageSize: img,
    patchSize: patch,
    window: [Math.floor(img[0] / patch), Math.floor(img[1] / patch)],
    channels: golden.in_chans,
    hiddenSize: golden.embed,
    depth: golden.depth,
    heads: golden.heads,
    mlpSize: Math.trunc(golden.embed * golden.mlp_ratio),
    kind: 'classification',
    classes: golden.classes,
    vocabulary: 0,
    classToken: true,
    maskToken: false,
    layerScale: golden.init_values > 0,
    qvBias: golden.qkv_bias,
    qkvBias: false,
    absolutePosition: golden.abs_pos,
    relativePosition: golden.rel_pos,
    sharedRelativePosition: golden.shared_rel_pos,
    pooling: golden.mean_pool ? 'mean' : 'class',
    tokenNorm: !golden.mean_pool,
    pooledNorm: golden.mean_pool,
    layerNormEps: 1e-6,
  };
}

/** Only what the shapes of a case can't tell; nothing for every other case. */
export const GOLDEN_HINTS: ReadonlyMap<string, ConfigHints> = new Map<string, ConfigHints>([
  ['v1_no_pos', { imageSize: [32, 32], heads: 4 }],
  ['v1_abs_pos', { heads: 4 }],
  ['v1_indivisible', { imageSize: [60, 60] }],
]);
