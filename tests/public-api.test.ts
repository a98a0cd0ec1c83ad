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
      'classify',
      'complexity',
      'convert',
      'convertWeights',
      'decodeImage',
      'diff',
      'evaluate',
      'inspect',
      'inventory',
      'listCatalog',
      'mergeEvaluations',
      'preprocess',
      'relativePositionIndex',
      'resizeImage',
      'routePreprocessing',
      'verify',
    ]);
  });
});
