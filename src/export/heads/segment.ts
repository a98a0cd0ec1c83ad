/**
 * Semantic segmentation: `pixel_values [batch, C, H, W]` to `logits [batch, classes, 4·Wh, 4·Ww]` by UPerNet over four
 * feature maps of the backbone. The auxiliary head of training is left out.
 *
 * @see unilm `beit/semantic_segmentation/backbone/beit.py` (taps, fpn1, fpn2); mmsegmentation
 *   `models/decode_heads/uper_head.py`, `psp_head.py`; transformers `BeitUperHead`
 */
import type { SegmentationHeads } from '../../beit.js';
import type { Task } from '../../task.js';
import { bytesOf, memoryTensor } from '../../tensor.js';
import { gelu, type Weight } from '../blocks.js';
import { encodeTokens } from '../encoder.js';
import { float, int, ints, string, type GraphBuilder, type Value } from '../graph.js';
import type { Head, HeadInput } from '../head.js';

/** PyTorch's default; upstream sets no other. */
const BATCH_NORM_EPS = 1e-5;

type Size = readonly [height: number, width: number];

/** A feature map `[B, E, h, w]`. */
interface FeatureMap {
  readonly value: Value;
  readonly size: Size;
}

export function segment({ taps, upsample }: Extract<Task, { name: 'segment' }>): Head {
  return (input) => {
    const { g, config, weight, pixels } = input;
    const states = encodeTokens(g, config, weight, { pixels }, Math.max(...taps));
    const pyramid = g.scoped('fpn', () =>
      featurePyramid(
        input,
        taps.map((tap) => states[tap]),
      ),
    );
    const logits = g.scoped('decode_head', () => decode(input, pyramid, config.segmentation!));
    return [upsample ? resize(g, logits, config.imageSize) : logits.value];
  };
}

/** Strides of a quarter, a half, one and two patches. */
function featurePyramid({ g, config, weight }: HeadInput, tapped: readonly Value[]): FeatureMap[] {
  const { hiddenSize: E, window } = config;
  const N = window[0] * window[1];
  const maps = tapped.map((tokens) => {
    const rows = g.op('Reshape', [tokens, g.int64([-1, N + 1, E])]);
    const patches = g.op('Slice', [rows, g.int64([1]), g.int64([N + 1]), g.int64([1])], {}, 'patch_tokens');
    const grid = g.op('Reshape', [patches, g.int64([-1, ...window, E])]);
    return g.op('Transpose', [grid], { perm: ints(0, 3, 1, 2) });
  });
  const grow = (x: Value, name: string): Value =>
    g.op(
      'ConvTranspose',
      [x, weight(`${name}.weight`), weight(`${name}.bias`)],
      { kernel_shape: ints(2, 2), strides: ints(2, 2) },
      name,
    );
  const twice = batchNorm(g, weight, grow(maps[0], 'backbone.fpn1.0'), 'backbone.fpn1.1');
  const four = grow(gelu(g, twice), 'backbone.fpn1.3');
  const two = grow(maps[1], 'backbone.fpn2.0');
  const half = g.op('MaxPool', [maps[3]], { kernel_shape: ints(2, 2), strides: ints(2, 2) });
  const scaled = (by: number): Size => [Math.floor(window[0] * by), Math.floor(window[1] * by)];
  return [
    { value: four, size: scaled(4) },
    { value: two, size: scaled(2) },
    { value: maps[2], size: scaled(1) },
    { value: half, size: scaled(0.5) },
  ];
}

function decode(
  { g, weight }: HeadInput,
  pyramid: readonly FeatureMap[],
  heads: SegmentationHeads,
): FeatureMap {
  const at: Weight = (name) => weight(`decode_head.${name}`);
  const laterals: FeatureMap[] = pyramid
    .slice(0, 3)
    .map(({ value, size }, i) => ({ value: conv(g, at, value, `lateral_convs.${i}`, 1), size }));
  laterals.push({ value: pyramidPooling(g, at, pyramid[3], heads.poolScales), size: pyramid[3].size });
  for (let i = 3; i > 0; i--) {
    const { value, size } = laterals[i - 1];
    laterals[i - 1] = { value: g.op('Add', [value, resize(g, laterals[i], size)]), size };
  }
  const [{ size }] = laterals;
  const levels = laterals.map(({ value, size: own }, i) => ({
    value: i < 3 ? conv(g, at, value, `fpn_convs.${i}`, 3) : value,
    size: own,
  }));
  const joined = g.op(
    'Concat',
    levels.map((level, i) => (i === 0 ? level.value : resize(g, level, size))),
    { axis: int(1) },
  );
  const fused = conv(g, at, joined, 'fpn_bottleneck', 3);
  const value = g.op(
    'Conv',
    [fused, at('conv_seg.weight'), at('conv_seg.bias')],
    { kernel_shape: ints(1, 1) },
    'conv_seg',
  );
  return { value, size };
}

/** PSP: averages over grids of 1, 2, 3 and 6 cells, brought back to size beside the map itself. */
function pyramidPooling(g: GraphBuilder, at: Weight, map: FeatureMap, scales: readonly number[]): Value {
  const pooled = scales.map((scale, i) => {
    const cells = g.scoped(`psp_modules.${i}`, () => adaptiveAverage(g, map, scale));
    return resize(g, { value: conv(g, at, cells, `psp_modules.${i}.1`, 1), size: [scale, scale] }, map.size);
  });
  return conv(g, at, g.op('Concat', [map.value, ...pooled], { axis: int(1) }), 'bottleneck', 3);
}

/** ONNX has no adaptive pooling: cell i covers floor(i·h/s) up to ceil((i+1)·h/s), a mean along each axis. */
function adaptiveAverage(
  g: GraphBuilder,
  { value, size: [height, width] }: FeatureMap,
  scale: number,
): Value {
  const across = g.op('MatMul', [value, averaging(g, width, scale, 'columns')]);
  return g.op('MatMul', [averaging(g, height, scale, 'rows'), across]);
}

/** `[scale, side]` for rows, transposed for columns. */
function averaging(g: GraphBuilder, side: number, scale: number, way: 'rows' | 'columns'): Value {
  const matrix = new Float32Array(side * scale);
  for (let cell = 0; cell < scale; cell++) {
    const start = Math.floor((cell * side) / scale);
    const end = Math.ceil(((cell + 1) * side) / scale);
    for (let i = start; i < end; i++) {
      matrix[way === 'rows' ? cell * side + i : i * scale + cell] = 1 / (end - start);
    }
  }
  const shape = way === 'rows' ? [scale, side] : [side, scale];
  return g.initializer(
    `const.average.${way}.${shape.join('_')}`,
    memoryTensor('F32', shape, bytesOf(matrix)),
  );
}

/** Convolution without bias, BatchNorm, ReLU: mmcv's `ConvModule`. */
function conv(g: GraphBuilder, at: Weight, x: Value, name: string, kernel: 1 | 3): Value {
  const pad = (kernel - 1) / 2;
  const out = g.op(
    'Conv',
    [x, at(`${name}.conv.weight`)],
    { kernel_shape: ints(kernel, kernel), pads: ints(pad, pad, pad, pad) },
    name,
  );
  return g.op('Relu', [batchNorm(g, at, out, `${name}.bn`)]);
}

function batchNorm(g: GraphBuilder, at: Weight, x: Value, name: string): Value {
  const inputs = [
    x,
    ...['weight', 'bias', 'running_mean', 'running_var'].map((part) => at(`${name}.${part}`)),
  ];
  return g.op('BatchNormalization', inputs, { epsilon: float(BATCH_NORM_EPS) }, name);
}

/** Bilinear, pixel centres at halves (PyTorch `align_corners=False`). */
function resize(g: GraphBuilder, { value, size: from }: FeatureMap, to: Size): Value {
  if (from[0] === to[0] && from[1] === to[1]) return value;
  const front = g.op('Shape', [value], { start: int(0), end: int(2) });
  const sizes = g.op('Concat', [front, g.int64(to)], { axis: int(0) });
  return g.op('Resize', [value, null, null, sizes], {
    mode: string('linear'),
    coordinate_transformation_mode: string('half_pixel'),
  });
}
