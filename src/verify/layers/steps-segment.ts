/**
 * UPerNet's parts one by one, each from what the file itself computed before it, with the mistakes that are made there.
 *
 * @see mmsegmentation `models/decode_heads/uper_head.py`, `psp_head.py`
 */
import type { Size } from '../oracle-grid.js';
import { batchNormOf } from './batch-norm.js';
import { wide } from './block-case.js';
import { Maps } from './maps.js';
import { carriedNoise } from './noise-steps.js';
import type { SegmentCase } from './segment-case.js';
import type { Step } from './step.js';
import { classesStep, convStep, joinedStep } from './steps-conv.js';
import { sumStep, upsampledStep } from './steps-levels.js';
import { activatedStep, cellsStep, featureMapStep, grownStep, halvedStep } from './steps-pyramid.js';

/** The parts in the order of the computation. */
export async function* segmentSteps(of: SegmentCase): AsyncGenerator<Step> {
  const { weights, images, task, probes, fetch } = of;
  const { config } = weights;
  const [h, w] = config.window;
  const sizes: readonly Size[] = [
    [4 * h, 4 * w],
    [2 * h, 2 * w],
    [h, w],
    [Math.floor(h / 2), Math.floor(w / 2)],
  ];
  const maps = async (name: string, size: Size): Promise<Maps> =>
    new Maps((await fetch([name])).get(name)!, images, size);
  const { grown, foldedNorm, halved, laterals, cells, bottleneck, levels, fusion, classes } = probes;

  const taken = [grown[0].input, grown[2].input, laterals[2].input, halved.input];
  for (const [level, name] of taken.entries()) {
    const found = (await fetch([name])).get(name)!;
    const step = featureMapStep(of, level, found);
    if (step) yield step;
  }
  const first = await maps(grown[0].input, sizes[2]);
  const double = await maps(grown[0].output, sizes[1]);
  const norm = await batchNormOf(weights, 'backbone.fpn1.1');
  const [inner, outer] = foldedNorm ? [norm, undefined] : [undefined, norm];
  yield await grownStep(of, 'fpn1, first half', 'backbone.fpn1.0', first, double, inner);
  const activated = await maps(grown[1].input, sizes[1]);
  yield activatedStep(of, double, activated, outer);
  yield await grownStep(
    of,
    'fpn1, second half',
    'backbone.fpn1.3',
    activated,
    await maps(grown[1].output, sizes[0]),
  );
  yield await grownStep(
    of,
    'fpn2',
    'backbone.fpn2.0',
    await maps(grown[2].input, sizes[2]),
    await maps(grown[2].output, sizes[1]),
  );
  const pooled = await maps(halved.output, sizes[3]);
  yield halvedStep(await maps(halved.input, sizes[2]), pooled);

  for (const [i, part] of laterals.entries()) {
    yield await convStep(of, {
      name: `lateral convolution ${i}`,
      tensor: `decode_head.lateral_convs.${i}`,
      size: sizes[i],
      kernel: 1,
      input: await maps(part.input, sizes[i]),
      output: await maps(part.output, sizes[i]),
    });
  }
  const { poolScales } = config.segmentation!;
  const grown4: Maps[] = [];
  for (const [i, part] of cells.entries()) {
    const size: Size = [poolScales[i], poolScales[i]];
    const input = await maps(part.input, size);
    const output = await maps(part.output, size);
    yield cellsStep(`averages over ${poolScales[i]}×${poolScales[i]} cells`, pooled, input);
    yield await convStep(of, {
      name: `convolution of the ${poolScales[i]}×${poolScales[i]} cells`,
      tensor: `decode_head.psp_modules.${i}.1`,
      size,
      kernel: 1,
      input,
      output,
    });
    grown4.push(output);
  }
  const coarsest = await maps(bottleneck.output, sizes[3]);
  yield await joinedStep(of, {
    name: 'bottleneck of the pooled cells',
    tensor: 'decode_head.bottleneck',
    size: sizes[3],
    parts: [pooled, ...grown4],
    output: coarsest,
  });

  let above = coarsest;
  const sums: Maps[] = [];
  for (let i = 2; i >= 0; i--) {
    const own = await maps(laterals[i].output, sizes[i]);
    sums[i] = await maps(levels[i].input, sizes[i]);
    yield sumStep(`sum of the levels ${i} and ${i + 1}`, own, above, sums[i]);
    above = sums[i];
  }
  const outputs: Maps[] = [];
  for (const [i, part] of levels.entries()) {
    outputs.push(await maps(part.output, sizes[i]));
    yield await convStep(of, {
      name: `convolution of level ${i}`,
      tensor: `decode_head.fpn_convs.${i}`,
      size: sizes[i],
      kernel: 3,
      input: sums[i],
      output: outputs[i],
    });
  }
  const fused = await maps(fusion.output, sizes[0]);
  yield await joinedStep(of, {
    name: 'fusion of the levels',
    tensor: 'decode_head.fpn_bottleneck',
    size: sizes[0],
    parts: [...outputs, coarsest],
    output: fused,
  });
  const scores = await maps(classes.output, sizes[0]);
  yield await classesStep(of, fused, scores);
  if (task.upsample) yield upsampledStep(scores, await maps(of.logits, config.imageSize));
  else if (of.logits !== classes.output) {
    const found = (await fetch([of.logits])).get(of.logits)!;
    yield {
      name: 'logits',
      tensors: [],
      found,
      right: wide(scores.values as Float32Array),
      noise: carriedNoise(wide(found)),
      *mistakes() {},
    };
  }
}
