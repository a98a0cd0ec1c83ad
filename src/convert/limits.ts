/**
 * What a framework's own code cannot compute though its layout has the names: a file that looks like it is damaged.
 */
import type { BeitConfig } from '../beit.js';
import type { Layout } from './layout.js';

export interface Limit {
  /** canonical tensor that shows it: there where it has no place, or missing */
  readonly tensor: string;
  readonly why: string;
}

/** @returns `undefined` when a model of this config can be in this layout */
export function limitOf({ name }: Pick<Layout, 'name'>, config: BeitConfig): Limit | undefined {
  if (name === 'mmpretrain') return undefined;
  if (!config.classToken) {
    return { tensor: 'backbone.cls_token', why: 'only mmpretrain has models without a class token' };
  }
  if (config.tokenNorm && config.pooledNorm) {
    return {
      tensor: 'backbone.ln1.weight',
      why: 'mean pooling has no norm over all tokens there; only mmpretrain has both norms',
    };
  }
  return undefined;
}
