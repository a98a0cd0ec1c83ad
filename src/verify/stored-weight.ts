/**
 * How a weight of the source stands in the written file: under its own name, or as integers and their steps.
 */
import type { PrecisionRow, WeightForm } from '../precision.js';
import { elementCount } from '../tensor.js';
import type { OnnxFile, OnnxInitializer } from './onnx-file.js';

/** Weights of 4-bit files that share one step. */
export const BLOCK = 32;

export interface StoredWeight {
  readonly form: WeightForm;
  readonly values: OnnxInitializer;
  readonly steps?: OnnxInitializer;
  readonly zeroPoint?: OnnxInitializer;
}

/** @returns `undefined` if the file has the weight in no form */
export function storedWeight({ initializers }: OnnxFile, name: string): StoredWeight | undefined {
  const own = initializers.get(name);
  if (own) return { form: own.dtype?.name === 'F16' ? 'float16' : 'float32', values: own };
  const bytes = initializers.get(`${name}_quantized`);
  if (bytes) {
    return {
      form: bytes.dtype?.name === 'U8' ? 'uint8' : 'int8',
      values: bytes,
      steps: initializers.get(`${name}_scale`),
      zeroPoint: initializers.get(`${name}_zero_point`),
    };
  }
  const blocks = initializers.get(`${name}_q4`);
  return blocks && { form: 'int4', values: blocks, steps: initializers.get(`${name}_scales`) };
}

/** All initializers that make up the weight. */
export function partsOf({ values, steps, zeroPoint }: StoredWeight): OnnxInitializer[] {
  return [values, steps, zeroPoint].filter((part) => part !== undefined);
}

/** Forms that a file of this precision may have; whatever is kept is float32. */
export function allowedForms({ weights, compute }: PrecisionRow): ReadonlySet<WeightForm> {
  return new Set<WeightForm>(['float32', weights, ...(compute === 'float16' ? (['float16'] as const) : [])]);
}

/**
 * Dtypes and dims as they must be.
 *
 * @param shape of the source tensor; a convolution's kernel counts as `[out, in]`
 * @returns     one sentence per deviation
 */
export function shapeFindings(
  name: string,
  shape: readonly number[],
  { form, values, steps, zeroPoint }: StoredWeight,
): string[] {
  const findings: string[] = [];
  const expect = (
    part: OnnxInitializer | undefined,
    what: string,
    dtypes: string,
    dims: readonly number[],
  ): void => {
    if (!part) findings.push(`${name}${what} is missing`);
    else if (
      !part.dtype ||
      !dtypes.split(' ').includes(part.dtype.name) ||
      String(part.dims) !== String(dims)
    ) {
      const found = `${part.dtype?.name.toLowerCase() ?? `type ${part.dataType}`}[${part.dims.join(', ')}]`;
      findings.push(
        `${part.name} is ${found}; needed is ${dtypes.toLowerCase().replace(' ', ' or ')}[${dims.join(', ')}]`,
      );
    }
  };
  if (form === 'float32' || form === 'float16') {
    if (String(values.dims) !== String(shape)) {
      findings.push(
        `${name} has the shape [${values.dims.join(', ')}]; this config needs [${shape.join(', ')}]`,
      );
    }
    return findings;
  }
  const outputs = shape[0];
  const inputs = elementCount(shape) / outputs;
  if (form === 'int4') {
    const blocks = Math.ceil(inputs / BLOCK);
    expect(values, '_q4', 'U8', [outputs, blocks, BLOCK / 2]);
    expect(steps, '_scales', 'F32 F16', [outputs * blocks]);
    return findings;
  }
  expect(values, '_quantized', form === 'int8' ? 'I8' : 'U8', [inputs, outputs]);
  expect(steps, '_scale', 'F32', [outputs]);
  if (form === 'uint8') expect(zeroPoint, '_zero_point', 'U8', []);
  else if (zeroPoint) findings.push(`${zeroPoint.name}: signed weights are symmetric and have no zero point`);
  return findings;
}
