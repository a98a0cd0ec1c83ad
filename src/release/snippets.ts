/** How to use a model, in the clients people use: ten lines each, with this model's own sizes and constants. */
import type { Preprocessing } from '../image.js';

export interface SnippetFacts {
  /** hub repository or folder */
  readonly repo: string;
  /** of the fp32 file (else the first), relative to the folder */
  readonly file: string;
  /** transformers.js' name of that precision */
  readonly dtype: string;
  readonly preprocessing: Preprocessing;
}

interface Snippet {
  readonly title: string;
  readonly language: string;
  readonly code: string;
}

const list = (values: readonly number[]): string => `[${values.join(', ')}]`;

export function classifySnippets(facts: SnippetFacts): readonly Snippet[] {
  return [transformersJs(facts), onnxruntimeNode(facts), onnxruntimeWeb(facts), python(facts)];
}

function transformersJs({ repo, dtype }: SnippetFacts): Snippet {
  return {
    title: 'transformers.js',
    language: 'js',
    code: `import { pipeline } from '@huggingface/transformers';

const classify = await pipeline('image-classification', '${repo}', { dtype: '${dtype}' });
const best = await classify('cat.jpg', { top_k: 5 }); // [{ label, score }, …]`,
  };
}

function onnxruntimeNode({ file, preprocessing }: SnippetFacts): Snippet {
  const { crop, mean, std } = preprocessing;
  const [H, W] = crop;
  return {
    title: 'onnxruntime, Node',
    language: 'js',
    code: `import * as ort from 'onnxruntime-node';
import sharp from 'sharp';

const [H, W, mean, std] = [${H}, ${W}, ${list(mean)}, ${list(std)}];
const rgb = await ${sharpChain(preprocessing)};
const x = Float32Array.from({ length: 3 * H * W }, (_, i) => {
  const c = Math.floor(i / (H * W));
  return (rgb[(i % (H * W)) * 3 + c] / 255 - mean[c]) / std[c];
});
const session = await ort.InferenceSession.create('${file}');
const { logits } = await session.run({ pixel_values: new ort.Tensor('float32', x, [1, 3, H, W]) });`,
  };
}

function sharpChain({ resize, crop }: Preprocessing): string {
  const [H, W] = crop;
  const start = `sharp('cat.jpg').removeAlpha().toColourspace('srgb')`;
  if (typeof resize !== 'number')
    return `${start}.resize(${resize[1]}, ${resize[0]}, { fit: 'fill' }).raw().toBuffer()`;
  const [top, left] = [Math.floor((resize - H) / 2), Math.floor((resize - W) / 2)];
  const cut =
    H === resize && W === resize ? '' : `\n  .extract({ left: ${left}, top: ${top}, width: W, height: H })`;
  return `${start}.resize(${resize}, ${resize}, { fit: 'cover' })${cut}.raw().toBuffer()`;
}

function onnxruntimeWeb({ file, preprocessing }: SnippetFacts): Snippet {
  const { resize, crop, mean, std } = preprocessing;
  const [H, W] = crop;
  const place =
    typeof resize === 'number'
      ? `const k = ${resize} / Math.min(img.width, img.height), [w, h] = [img.width * k, img.height * k];
ctx.drawImage(img, (W - w) / 2, (H - h) / 2, w, h);`
      : `ctx.drawImage(img, 0, 0, W, H);`;
  return {
    title: 'onnxruntime, web',
    language: 'js',
    code: `const [H, W, mean, std] = [${H}, ${W}, ${list(mean)}, ${list(std)}];
const ctx = new OffscreenCanvas(W, H).getContext('2d');
ctx.imageSmoothingQuality = 'high';
${place}
const { data } = ctx.getImageData(0, 0, W, H);
const x = Float32Array.from({ length: 3 * H * W }, (_, i) => {
  const c = Math.floor(i / (H * W));
  return (data[(i % (H * W)) * 4 + c] / 255 - mean[c]) / std[c];
});
const session = await ort.InferenceSession.create('${file}');
const { logits } = await session.run({ pixel_values: new ort.Tensor('float32', x, [1, 3, H, W]) });`,
  };
}

function python({ file, preprocessing }: SnippetFacts): Snippet {
  const { resize, crop, mean, std, interpolation } = preprocessing;
  const [H, W] = crop;
  const filter = interpolation.toUpperCase();
  const steps =
    typeof resize === 'number'
      ? `img = Image.open("cat.jpg").convert("RGB"); k = ${resize} / min(img.size)
img = img.resize((int(img.width * k), int(img.height * k)), Image.${filter})
x0, y0 = round((img.width - ${W}) / 2), round((img.height - ${H}) / 2)
x = np.asarray(img.crop((x0, y0, x0 + ${W}, y0 + ${H})), np.float32) / 255`
      : `img = Image.open("cat.jpg").convert("RGB").resize((${W}, ${H}), Image.${filter})
x = np.asarray(img, np.float32) / 255`;
  return {
    title: 'onnxruntime, Python',
    language: 'python',
    code: `import numpy as np, onnxruntime as ort
from PIL import Image

${steps}
x = ((x - np.float32(${list(mean)})) / np.float32(${list(std)})).transpose(2, 0, 1)[None]
logits = ort.InferenceSession("${file}").run(None, {"pixel_values": x})[0]`,
  };
}
