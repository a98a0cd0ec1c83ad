// Pictures of the demo model's eight shapes, a folder per class; the same seed gives the same pictures.
//
//   node scripts/make-shapes.mjs --out FOLDER [--count 2000] [--seed 1] [--side 80]
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';

const LABELS = ['circle', 'crescent', 'cross', 'heart', 'ring', 'square', 'star', 'triangle'];

/** A 32-bit generator (T. Ettinger's mulberry32, public domain): values in [0, 1). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const circle = (radius, x = 0, reverse = false) =>
  `M ${x - radius} 0 a ${radius} ${radius} 0 1 ${reverse ? 0 : 1} ${2 * radius} 0 a ${radius} ${radius} 0 1 ${reverse ? 0 : 1} ${-2 * radius} 0 z`;
const polygon = (points) => `M ${points.map(([x, y]) => `${x.toFixed(4)} ${y.toFixed(4)}`).join(' L ')} z`;
const turn = (count) => Array.from({ length: count }, (_, i) => (i * 2 * Math.PI) / count);

/** Outlines in units of the radius, as scripts/train-demo.py draws them. */
const OUTLINES = {
  circle: circle(1),
  crescent: circle(1),
  ring: circle(1) + circle(0.56),
  square: polygon(
    [
      [-1, -1],
      [1, -1],
      [1, 1],
      [-1, 1],
    ].map(([x, y]) => [x * 0.84, y * 0.84]),
  ),
  triangle: polygon(
    [-90, 30, 150]
      .map((d) => (d * Math.PI) / 180)
      .map((a) => [Math.cos(a) * 1.08, (Math.sin(a) + 0.12) * 1.08]),
  ),
  star: polygon(
    turn(10).map((a, i) => {
      const radius = i % 2 === 0 ? 1.12 : 0.48;
      return [Math.cos(a - Math.PI / 2) * radius, Math.sin(a - Math.PI / 2) * radius];
    }),
  ),
  cross: polygon([
    [-0.34, -1],
    [0.34, -1],
    [0.34, -0.34],
    [1, -0.34],
    [1, 0.34],
    [0.34, 0.34],
    [0.34, 1],
    [-0.34, 1],
    [-0.34, 0.34],
    [-1, 0.34],
    [-1, -0.34],
    [-0.34, -0.34],
  ]),
  heart: polygon(
    turn(90).map((t) => [
      (16 * Math.sin(t) ** 3) / 15.5,
      (-(13 * Math.cos(t) - 5 * Math.cos(2 * t) - 2 * Math.cos(3 * t) - Math.cos(4 * t)) - 1.5) / 15.5,
    ]),
  ),
};

/** One picture: a light shape, a little tilted, on a darker background. */
export async function drawShape(label, random, side) {
  const between = (low, high) => low + (high - low) * random();
  const [front, back] = [between(150, 235), between(10, 70)];
  const colour = (level) => `rgb(${[0, 0, 0].map(() => Math.round(level + between(-20, 20))).join(',')})`;
  const width = Math.round(side * between(1, 1.25));
  const radius = side * between(0.26, 0.35);
  const [x, y] = [width * between(0.46, 0.54), side * between(0.46, 0.54)];
  const background = colour(back);
  const bite = label === 'crescent' ? `<path d="${circle(0.86, 0.48)}" fill="${background}"/>` : '';
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${side}"><rect width="100%" height="100%" fill="${background}"/>
    <g transform="translate(${x} ${y}) rotate(${between(-30, 30)}) scale(${radius})"><path fill-rule="evenodd" d="${OUTLINES[label]}" fill="${colour(front)}"/>${bite}</g></svg>`;
  return sharp(Buffer.from(svg)).removeAlpha();
}

/** `count` pictures below `folder`, every fourth a JPEG; returns their paths. */
export async function makeShapes(folder, count, seed = 1, side = 80) {
  const random = generator(seed);
  const paths = [];
  for (const label of LABELS) mkdirSync(join(folder, label), { recursive: true });
  for (let i = 0; i < count; i++) {
    const label = LABELS[i % LABELS.length];
    const picture = await drawShape(label, random, side);
    const jpeg = i % 4 === 3;
    const bytes = await (
      jpeg ? picture.jpeg({ quality: 90 }) : picture.png({ compressionLevel: 3 })
    ).toBuffer();
    const path = join(folder, label, `${String(i).padStart(5, '0')}.${jpeg ? 'jpg' : 'png'}`);
    writeFileSync(path, bytes);
    paths.push(path);
  }
  return paths;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      out: { type: 'string' },
      count: { type: 'string', default: '2000' },
      seed: { type: 'string', default: '1' },
      side: { type: 'string', default: '80' },
    },
  });
  if (!values.out) throw new Error('--out FOLDER is needed');
  await makeShapes(values.out, Number(values.count), Number(values.seed), Number(values.side));
}
