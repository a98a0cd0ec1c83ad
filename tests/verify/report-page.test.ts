/** Reports of real runs: by schema, as Markdown, and as a page in a browser. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ParityError, UsageError } from '../../src/errors.js';
import { decodeImage, preprocess } from '../../src/image.js';
import { convert, verify } from '../../src/pipeline.js';
import { commandLine } from '../../src/verify/report/command.js';
import type { ReportDocument } from '../../src/verify/report/data.js';
import { htmlReport } from '../../src/verify/report/html.js';
import { escapeMarkdown, markdownReport } from '../../src/verify/report/markdown.js';
import { spread } from '../../src/verify/report/details.js';
import { runCompiled } from '../cli/harness.js';
import { goldenPath } from '../convert/goldens.js';
import { CHROMIUM, Chromium, leastContrast } from '../support/chromium.js';
import { schemaErrors } from '../support/json-schema.js';
import { editOnnx } from '../support/onnx-edit.js';

const folder = mkdtempSync(join(tmpdir(), 'convert-beit-report-'));
const demo = fileURLToPath(new URL('../../fixtures/demo/', import.meta.url));
const images = ['heart.jpg', 'ring.png'].map((name) => join(demo, name));
const schema = JSON.parse(
  readFileSync(new URL('../../docs/report.schema.json', import.meta.url), 'utf8'),
) as Parameters<typeof schemaErrors>[1];
const at = (name: string): string => join(folder, name);
const read = (name: string): ReportDocument => JSON.parse(readFileSync(at(name), 'utf8')) as ReportDocument;

const MASKED = goldenPath('mim_v1', 'official.safetensors');
const FEATURES = goldenPath('mm_out_types', 'mmpretrain.safetensors');

/** A report of every task that is no classifier's: two of files that are wrong, one of a lower precision. */
async function tasks(): Promise<void> {
  await convert({
    src: goldenPath('segmentation', 'hf.safetensors'),
    out: at('segment.onnx'),
    images,
    layers: true,
    reports: ['segment.html', 'segment.json'].map(at),
  });
  await convert({
    src: MASKED,
    out: at('masked.onnx'),
    precisions: ['fp32', 'q8'],
    acceptQuality: true,
    samples: 2,
    reports: ['masked.html', 'masked.json', 'masked.md'].map(at),
  });
  editOnnx(at('masked.onnx'), at('shifted.onnx'), (file) => {
    const bias = file.floats('head.cls_head.bias');
    bias[7] += 1;
    file.setFloats('head.cls_head.bias', bias);
  });
  await convert({
    src: FEATURES,
    out: at('features.onnx'),
    outTypes: ['raw', 'cls_token', 'featmap'],
    outIndices: [0, 1, -1],
    reports: [],
  });
  editOnnx(at('features.onnx'), at('altered.onnx'), (file) => {
    const weight = file.floats('backbone.layers.1.ffn.layers.1.weight');
    file.setFloats('backbone.layers.1.ffn.layers.1.weight', weight.fill(0, 0, 40));
  });
  editOnnx(at('model.onnx'), at('nan.onnx'), (file) => {
    const bias = file.floats('head.fc.bias');
    bias[3] = NaN;
    file.setFloats('head.fc.bias', bias);
  });
  const wrong = [
    { model: 'nan.onnx', src: demo, reports: ['nan.html', 'nan.json', 'nan.md'] },
    { model: 'shifted.onnx', src: MASKED, reports: ['shifted.html', 'shifted.json'] },
    { model: 'altered.onnx', src: FEATURES, reports: ['altered.html', 'altered.json', 'altered.md'] },
  ];
  for (const { model, src, reports } of wrong) {
    const failing = verify({ model: at(model), src, samples: 2, layers: true, reports: reports.map(at) });
    await expect(failing).rejects.toBeInstanceOf(ParityError);
  }
}

beforeAll(async () => {
  await convert({
    src: demo,
    out: at('model.onnx'),
    images,
    layers: true,
    reports: ['good.html', 'good.json', 'good.md'].map(at),
  });
  editOnnx(at('model.onnx'), at('broken.onnx'), (file) => {
    const split = file.consumer(file.consumer('backbone.layers.1.attn.qkv.weight').output![0]);
    const [q, k, v] = split.output!;
    split.output = [k, q, v];
  });
  const failing = verify({
    model: at('broken.onnx'),
    src: demo,
    samples: 2,
    layers: true,
    reports: ['bad.html', 'bad.json', 'bad.md'].map(at),
  });
  await expect(failing).rejects.toBeInstanceOf(ParityError);
  await tasks();
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('report.json', () => {
  it.each([
    ['good.json'],
    ['bad.json'],
    ['segment.json'],
    ['masked.json'],
    ['masked_q8.json'],
    ['shifted.json'],
    ['altered.json'],
    ['nan.json'],
  ])('%s is what docs/report.schema.json says', (name) => {
    expect(schemaErrors(read(name), schema)).toEqual([]);
  });

  it('the checker of this test finds what is wrong', () => {
    const broken = { ...read('good.json'), schemaVersion: 2, extra: 1, unusual: [1] };
    expect(schemaErrors(broken, schema)).toEqual([
      '$.schemaVersion: 2 is not 1',
      '$.unusual[0]: is no string',
      '$.extra: is not described',
    ]);
  });

  it('tells of a failed conversion where and why', () => {
    const { parity } = read('bad.json');
    expect(parity.verdict).toBe('failed');
    expect(parity.layers!.divergence).toMatchObject({ layer: 1, step: 'attention scores' });
    expect(parity.layers!.suspects[0].mistake).toBe('q and k are swapped');
  });

  it('says where class names are from', () => {
    const { labels } = read('good.json').source;
    expect(labels).toMatchObject({ count: 8, origin: 'config.json beside the weights' });
    expect(read('masked.json').source.labels).toBeUndefined();
  });

  it('tells of an output how far, where and how often it is off', () => {
    const { parity, outputs } = read('shifted.json');
    const [output] = parity.outputs!;
    // One class of the vocabulary has 1 more in its bias, at every place of both inputs.
    expect(output.maxAbs).toBeCloseTo(1, 4);
    expect(output.worst!.at[1]).toBe(7);
    expect(parity.inputs.map(({ name, maxAbs }) => [name, Math.round(1e4 * maxAbs) / 1e4])).toEqual([
      ['seed 0 #0', 1],
      ['seed 0 #1', 1],
    ]);
    const [places, vocabulary] = output.shape;
    const [{ compared, histogram, sample, noise }] = outputs;
    expect(compared).toBe(2 * places * vocabulary);
    expect(histogram.range * noise).toBeCloseTo(1, 3);
    expect(histogram.counts.filter((count) => count > 0)).toEqual([compared - 2 * places, 2 * places]);
    for (const { index, written, oracle } of sample)
      expect(written - oracle).toBeCloseTo(index % vocabulary === 7 ? 1 : 0, 4);
    expect(sample.some(({ index }) => index % vocabulary === 7)).toBe(true);
    expect(new Set(sample.map(({ input }) => input))).toEqual(new Set([0, 1]));
  });

  it('names the output where a mistake is seen first, and what a lower precision may cost', () => {
    const { parity, outputs } = read('altered.json');
    const off = parity.outputs!.filter(({ noiseUnits }) => noiseUnits > 32).map(({ name }) => name);
    expect(off).not.toContain('hidden_state_0');
    expect(off).toContain('hidden_state_1');
    expect(outputs.map(({ output }) => output)).toEqual(parity.outputs!.map(({ name }) => name));
    const [{ quality, noiseUnitsAllowed }] = read('masked_q8.json').parity.outputs!;
    expect([quality?.precision, noiseUnitsAllowed]).toEqual(['q8', undefined]);
  });

  it('tells of a segmentation which classes both see', async () => {
    const { parity, outputs } = read('segment.json');
    expect(parity.inputs.map(({ name }) => name)).toEqual(['heart.jpg', 'ring.png']);
    const pixels = await Promise.all(
      images.map(async (path) =>
        preprocess(await decodeImage(path), read('segment.json').source.preprocessing),
      ),
    );
    const session = await InferenceSession.create(at('segment.onnx'));
    for (const [i, { places }] of parity.inputs.entries()) {
      const ran = await session.run({ pixel_values: new Tensor('float32', pixels[i], [1, 3, 64, 64]) });
      const logits = ran['logits'].data as Float32Array;
      const [K, H, W] = outputs[0].shape;
      const best = Array.from({ length: H * W }, (_, place) => {
        const values = Array.from({ length: K }, (__, k) => logits[k * H * W + place]);
        return values.indexOf(Math.max(...values));
      });
      expect([places!.compared, places!.same]).toEqual([H * W, H * W]);
      for (const { class: index, share } of places!.written)
        expect(share).toBe(best.filter((each) => each === index).length / (H * W));
      expect(places!.written.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
      expect(places!.oracle).toEqual(places!.written);
    }
  });

  it('samples all of a large output, no channel again and again', () => {
    const [tokens, channels] = [12 * 197, 768];
    const places = spread(tokens * channels, 600);
    expect(places).toHaveLength(600);
    expect(places.every((place, i) => i === 0 || place > places[i - 1])).toBe(true);
    expect(places.at(-1)!).toBeLessThan(tokens * channels);
    expect(new Set(places.map((place) => place % channels)).size).toBeGreaterThan(300);
    expect(spread(5, 600)).toEqual([0, 1, 2, 3, 4]);
  });

  it('names no folder, only what was typed', () => {
    const { command, ...rest } = read('good.json');
    expect(JSON.stringify(rest)).not.toContain(folder);
    expect(command).toContain(folder);
  });

  it('its command line makes the same report again', async () => {
    const { command, files, parity } = read('bad.json');
    const words = command
      .split(' ')
      .slice(1)
      .map((word) => word.replace('bad.json', 'again.json'));
    expect((await runCompiled(words)).code).toBe(4);
    const again = read('again.json');
    expect(again.files).toEqual(files);
    const plain = (of: ReportDocument['parity']): unknown => ({ ...of, seconds: 0 });
    expect(plain(again.parity)).toEqual(plain(parity));
  });

  it('refuses an ending that is no format, before any work', async () => {
    await expect(
      verify({ model: at('none.onnx'), src: demo, reports: [at('r.pdf')] }),
    ).rejects.toBeInstanceOf(UsageError);
  });
});

describe('the command line', () => {
  it.each([
    ['plain words', ['verify', 'model.onnx'], [['--seed', 0]], 'convert-beit verify model.onnx --seed 0'],
    ['blanks and quotes', ['verify', "it's a model.onnx"], [], "convert-beit verify 'it'\\''s a model.onnx'"],
    [
      'lists, flags, gaps',
      [],
      [['--image', ['a.jpg', 'b c.jpg']], undefined, ['--layers']],
      "convert-beit --image a.jpg 'b c.jpg' --layers",
    ],
  ] as const)('%s', (_, words, parts, expected) => {
    expect(commandLine(words, parts)).toBe(expected);
  });
});

describe('names that try to be something else', () => {
  const hostile = '<img src=x onerror=alert(1)>|`"\'&</title><script>alert(2)</script>';
  const rename = (document: ReportDocument): ReportDocument => ({
    ...document,
    command: hostile,
    source: { ...document.source, id: hostile, notes: [hostile] },
    files: [{ name: hostile, bytes: 1 }],
    unusual: [hostile],
    weights: document.weights.map((each) => ({ ...each, name: hostile })),
    logits: document.logits.map((each) => ({ ...each, input: hostile })),
    pictures: document.pictures.map((each) => ({ ...each, dataUrl: `data:,"${hostile}` })),
    parity: {
      ...document.parity,
      checks: document.parity.checks.map((check) => ({ ...check, detail: hostile, findings: [hostile] })),
      inputs: document.parity.inputs.map((input) => ({
        ...input,
        written: input.written.map((each) => ({ ...each, label: hostile })),
      })),
    },
  });

  it('html', () => {
    const page = htmlReport(rename(read('good.json')));
    expect(page).not.toMatch(/<script|<img src=x|onerror=alert\(1\)>/);
    expect(page).toContain('&lt;script&gt;');
  });

  it('markdown', () => {
    const text = markdownReport(rename(read('good.json')));
    const outside = text.split('```')[0];
    expect(outside).not.toMatch(/(^|[^\\])<img/);
    expect(escapeMarkdown('a|b\n[c](d)')).toBe('a\\|b \\[c\\]\\(d\\)');
  });
});

describe('report.md', () => {
  it('says verdict, numbers and command', () => {
    const text = readFileSync(at('good.md'), 'utf8');
    expect(text).toMatch(/^## Parity passed: model\.onnx\n/);
    for (const part of [
      '| largest logit error |',
      '### Checks',
      '### Layer by layer',
      '| block 1 |',
      '```sh\nconvert-beit --src',
    ]) {
      expect(text).toContain(part);
    }
    expect(readFileSync(at('bad.md'), 'utf8')).toContain('layer 1, attention scores');
  });

  it('gives no class for what is no number', () => {
    const text = readFileSync(at('nan.md'), 'utf8');
    expect(text).toMatch(
      /\| seed 0 \\#0 \| Infinity \| infinitely many \| no finite numbers \| \w+ [\d.]+ % \|/,
    );
  });

  it('has a line for every output of another task, with what is judged first', () => {
    const altered = readFileSync(at('altered.md'), 'utf8');
    expect(altered).toMatch(/^## Parity failed: altered\.onnx\n/);
    expect(altered).toContain('Failed: provenance, outputs, layers');
    expect(altered).toContain('| output | noise units |');
    for (const { name } of read('altered.json').parity.outputs!)
      expect(altered).toContain(`\n| ${escapeMarkdown(name)} | `);
    expect(readFileSync(at('masked_q8.md'), 'utf8')).toContain('| output | std deviations |');
  });
});

/** Debian: apt-get install chromium. */
const browser = CHROMIUM === undefined ? describe.skip : describe;
if (CHROMIUM === undefined) console.warn('report.html is not opened: there is no Chromium on this machine');

const TEXTS = '.verdict p, .verdict dt, td, th, dd, dt, figcaption, h2, code, .soft, .bad';

const pair = (prefix: string): string[] => [`${prefix}histogram-t`, `${prefix}scatter-t`];

/** What of a chart is cut off at its edge. */
const CUT = `[...document.querySelectorAll('svg text')].filter((text) => {
  const [inner, outer] = [text, text.closest('svg')].map((node) => node.getBoundingClientRect());
  return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1;
}).map((text) => text.textContent)`;

browser('report.html in Chromium', () => {
  let chromium: Chromium;
  beforeAll(() => {
    chromium = new Chromium(CHROMIUM!);
  });
  afterAll(() => chromium.close());

  const four = ['', 'output-1-', 'output-2-', 'output-3-'].flatMap(pair);
  const pages = [
    { name: 'good', verdict: 'passed', pictures: 2, charts: ['layers-t', ...pair('')] },
    { name: 'bad', verdict: 'failed', pictures: 0, charts: ['layers-t', ...pair('')] },
    { name: 'segment', verdict: 'passed', pictures: 2, charts: ['layers-t', ...pair('')] },
    { name: 'masked_q8', verdict: 'passed', pictures: 0, charts: pair('') },
    { name: 'shifted', verdict: 'failed', pictures: 0, charts: ['layers-t', ...pair('')] },
    { name: 'nan', verdict: 'failed', pictures: 0, charts: ['layers-t', ...pair('')] },
    { name: 'altered', verdict: 'failed', pictures: 0, charts: ['layers-t', ...four] },
  ];
  it.each(pages)('the page of $name', async ({ name, verdict, pictures, charts }) => {
    const url = pathToFileURL(at(`${name}.html`)).href;
    await chromium.open(url);
    expect(await chromium.evaluate<string>(`document.querySelector('.verdict .big').textContent`)).toBe(
      `Parity ${verdict}`,
    );
    // Verdict first.
    expect(
      await chromium.evaluate<boolean>(
        `document.querySelector('main').firstElementChild.classList.contains('verdict')`,
      ),
    ).toBe(true);
    const seen = await chromium.evaluate<string[]>(
      `[...document.querySelectorAll('svg[role=img]')].filter((svg) => svg.getBoundingClientRect().height > 80 && svg.querySelector('desc').textContent.length > 40).map((svg) => svg.querySelector('title').id)`,
    );
    expect(seen).toEqual([...charts, 'weights-t']);
    expect(
      await chromium.evaluate<number>(
        `[...document.images].filter((image) => image.naturalWidth > 0).length`,
      ),
    ).toBe(pictures);
    // What is no number is said in words, and drawn nowhere.
    expect(
      await chromium.evaluate<string[]>(
        `[...document.querySelectorAll('td, p, svg *')].map((node) => [node.textContent, ...[...node.attributes].map(({ value }) => value)].join(' ')).filter((text) => /NaN(?![/]Inf|,)|undefined/.test(text))`,
      ),
    ).toEqual([]);
    // A heading or a list with nothing behind it.
    expect(
      await chromium.evaluate<string[]>(
        `[...document.querySelectorAll('section, .pair > div, tbody, figure')].filter((node) => node.textContent.trim().length < 2 || node.children.length + node.childNodes.length < 2).map((node) => node.outerHTML.slice(0, 80))`,
      ),
    ).toEqual([]);

    const background = `getComputedStyle(document.body).backgroundColor`;
    const looks: string[] = [];
    for (const theme of ['light', 'dark'] as const) {
      // Nothing is wider than a phone; wide tables scroll by themselves.
      for (const width of [390, 1280]) {
        await chromium.view(width, theme);
        const wide = await chromium.evaluate<number>('document.documentElement.scrollWidth');
        expect(wide, String(width)).toBeLessThanOrEqual(width);
        expect(await chromium.evaluate<string[]>(CUT), String(width)).toEqual([]);
      }
      looks.push(await chromium.evaluate<string>(background));
      expect(await chromium.evaluate<number>(leastContrast(TEXTS)), theme).toBeGreaterThan(4.5);
    }
    expect(looks[0]).not.toBe(looks[1]);

    // A4 without its margins: paper does not scroll.
    await chromium.view(718, 'dark');
    await chromium.send('Emulation.setEmulatedMedia', { media: 'print', features: [] });
    expect(await chromium.evaluate<string>(background)).toBe('rgb(255, 255, 255)');
    expect(
      await chromium.evaluate<string[]>(
        `[...document.querySelectorAll('.scroll')].filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.textContent.slice(0, 40))`,
      ),
    ).toEqual([]);
    await chromium.send('Emulation.setEmulatedMedia', { media: '', features: [] });

    expect(chromium.complaints()).toEqual([]);
    expect(chromium.requests()).toEqual([url]);
  });
});
