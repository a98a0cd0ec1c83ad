/** How to use a model, in the clients people use: ten lines each, with this model's own sizes and constants. */
import type { Preprocessing } from '../image.js';

export interface SnippetFacts {
  readonly task: string;
  readonly name: string;
  /** on the hub, if it will be there */
  readonly repo?: string;
  /** of the fp32 file (else the first), relative to the folder */
  readonly file: string;
  /** transformers.js' name of that precision; `undefined` where it would not find the file, or not know the task */
  readonly clientDtype?: string;
  readonly preprocessing: Preprocessing;
  readonly outputs: readonly string[];
  /** patches of an image, for a model that is told which of them are hidden */
  readonly masked?: number;
}

interface Snippet {
  readonly title: string;
  readonly language: string;
  readonly code: string;
}

const list = (values: readonly number[]): string => `[${values.join(', ')}]`;

export function snippets(facts: SnippetFacts): readonly Snippet[] {
  const all = [transformersJs(facts), onnxruntimeNode(facts), onnxruntimeWeb(facts), python(facts)];
  return all.filter((snippet) => snippet !== undefined);
}

/** What a pipeline of transformers.js is called, and what it gives. */
const PIPELINES: ReadonlyMap<string, { readonly name: string; readonly call: string }> = new Map([
  [
    'classify',
    {
      name: 'image-classification',
      call: `const best = await run('cat.jpg', { top_k: 5 }); // [{ label, score }, …]`,
    },
  ],
  [
    'features',
    {
      name: 'image-feature-extraction',
      call: `const features = await run('cat.jpg'); // a tensor, [1, tokens, size]`,
    },
  ],
]);

/** Tasks that transformers.js has a BEiT for. */
export const isClientTask = (task: string): boolean => PIPELINES.has(task);

function transformersJs({ task, name, repo, clientDtype }: SnippetFacts): Snippet | undefined {
  const known = PIPELINES.get(task);
  if (!known || clientDtype === undefined) return undefined;
  const start =
    repo === undefined
      ? `import { env, pipeline } from '@huggingface/transformers';

env.localModelPath = '.'; // where the folder "${name}" lies
env.allowRemoteModels = false;`
      : `import { pipeline } from '@huggingface/transformers';
`;
  return {
    title: 'transformers.js',
    language: 'js',
    code: `${start}
const run = await pipeline('${known.name}', '${repo ?? name}', { dtype: '${clientDtype}' });
${known.call}`,
  };
}

function onnxruntimeNode(facts: SnippetFacts): Snippet {
  const { crop, mean, std } = facts.preprocessing;
  return {
    title: 'onnxruntime, Node',
    language: 'js',
    code: `import * as ort from 'onnxruntime-node';
import sharp from 'sharp';
const [H, W, mean, std] = [${crop.join(', ')}, ${list(mean)}, ${list(std)}];
const rgb = await ${sharpChain(facts.preprocessing)};
${pixels('rgb', 3)}
${session(facts)}`,
  };
}

const KERNELS: Readonly<Record<string, string>> = { bicubic: 'cubic', bilinear: 'linear' };

function sharpChain({ resize, crop, interpolation }: Preprocessing): string {
  const [height, width] = typeof resize === 'number' ? [resize, resize] : resize;
  const fit = typeof resize === 'number' ? 'cover' : 'fill';
  const kernel = KERNELS[interpolation] === undefined ? '' : `, kernel: '${KERNELS[interpolation]}'`;
  const [top, left] = [height - crop[0], width - crop[1]].map((margin) => Math.floor(margin / 2));
  const cut =
    top === 0 && left === 0 ? '' : `\n  .extract({ left: ${left}, top: ${top}, width: W, height: H })`;
  return `sharp('cat.jpg').removeAlpha().toColourspace('srgb')
  .resize(${width}, ${height}, { fit: '${fit}'${kernel} })${cut}.raw().toBuffer()`;
}

function onnxruntimeWeb(facts: SnippetFacts): Snippet {
  const { resize, crop, mean, std } = facts.preprocessing;
  const place =
    typeof resize === 'number'
      ? `const k = ${resize} / Math.min(img.width, img.height), [w, h] = [img.width * k, img.height * k];
ctx.drawImage(img, (W - w) / 2, (H - h) / 2, w, h);`
      : `ctx.drawImage(img, 0, 0, W, H);`;
  return {
    title: 'onnxruntime, web',
    language: 'js',
    code: `import * as ort from 'onnxruntime-web';
const img = await createImageBitmap(await (await fetch('cat.jpg')).blob());
const [H, W, mean, std] = [${crop.join(', ')}, ${list(mean)}, ${list(std)}];
const ctx = Object.assign(new OffscreenCanvas(W, H).getContext('2d'), { imageSmoothingQuality: 'high' });
${place}
const rgba = ctx.getImageData(0, 0, W, H).data;
${pixels('rgba', 4)}
${session(facts)}`,
  };
}

/** Interleaved bytes → planes of normalised floats. */
function pixels(from: string, stride: number): string {
  return `const x = Float32Array.from({ length: 3 * H * W }, (_, i, c = Math.floor(i / (H * W))) => (${from}[(i % (H * W)) * ${stride} + c] / 255 - mean[c]) / std[c]);`;
}

function session({ file, outputs, masked }: SnippetFacts): string {
  const hidden =
    masked === undefined
      ? ''
      : `, bool_masked_pos: new ort.Tensor('bool', Uint8Array.from({ length: ${masked} }, () => Math.random() < 0.4), [1, ${masked}])`;
  const named = outputs.every((name) => /^[A-Za-z_]\w*$/.test(name))
    ? `{ ${outputs.join(', ')} }`
    : 'outputs';
  return `const session = await ort.InferenceSession.create('${file}');
const ${named} = await session.run({ pixel_values: new ort.Tensor('float32', x, [1, 3, H, W])${hidden} });`;
}

function python({ file, preprocessing, outputs, masked }: SnippetFacts): Snippet {
  const { resize, crop, mean, std, interpolation } = preprocessing;
  const [H, W] = crop;
  const filter = interpolation.toUpperCase();
  const steps =
    typeof resize === 'number'
      ? `img = Image.open("cat.jpg").convert("RGB"); k = ${resize} / min(img.size)
img = img.resize([max(${resize}, int(side * k)) for side in img.size], Image.${filter})
x0, y0 = round((img.width - ${W}) / 2), round((img.height - ${H}) / 2)
x = np.asarray(img.crop((x0, y0, x0 + ${W}, y0 + ${H})), np.float32) / 255`
      : `img = Image.open("cat.jpg").convert("RGB").resize((${W}, ${H}), Image.${filter})
x = np.asarray(img, np.float32) / 255`;
  const hidden = masked === undefined ? '' : `, "bool_masked_pos": np.random.rand(1, ${masked}) < 0.4`;
  const one = outputs.length === 1;
  const named = outputs.every((name) => /^[A-Za-z_]\w*$/.test(name)) ? outputs.join(', ') : 'outputs';
  return {
    title: 'onnxruntime, Python',
    language: 'python',
    code: `import numpy as np, onnxruntime as ort
from PIL import Image

${steps}
x = ((x - np.float32(${list(mean)})) / np.float32(${list(std)})).transpose(2, 0, 1)[None]
${named} = ort.InferenceSession("${file}").run(None, {"pixel_values": x${hidden}})${one ? '[0]' : ''}`,
  };
}
