/** Every layout that can be read, most specific first. */
import type { Layout } from '../layout.js';
import { official } from './official.js';

export const LAYOUTS: readonly Layout[] = [official];
