/** Every layout that is read and written. Where a file fits several, the first one is taken. */
import type { Layout } from '../layout-table.js';
import { mmpretrain } from './mmpretrain.js';
import { official } from './official.js';
import { timm } from './timm.js';
import { transformers } from './transformers.js';

export const LAYOUTS: readonly Layout[] = [official, timm, transformers, mmpretrain];
