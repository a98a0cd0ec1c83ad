import { describe, expect, it } from 'vitest';
import * as api from '../src/index.js';

describe('public API', () => {
  it('exports exactly these names', () => {
    expect(Object.keys(api).sort()).toEqual([
      'ConvertBeitError',
      'EnvironmentError',
      'FormatError',
      'InputError',
      'InterruptedError',
      'LayoutError',
      'NetworkError',
      'ParityError',
      'ShapeError',
      'UsageError',
      'VERSION',
      'complexity',
      'convert',
      'convertWeights',
      'decodeImage',
      'diff',
      'inspect',
      'inventory',
      'listCatalog',
      'preprocess',
      'relativePositionIndex',
      'verify',
    ]);
  });
});
