/** The folder in a real browser: the pages of docs/use-in-a-browser.md in Chromium, without network. */
import { appendFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { build } from 'vite';
import { classify } from '../../src/pipeline.js';
import { PRECISIONS, type PrecisionName } from '../../src/precision.js';
import { convertFolder } from '../../src/release/one.js';
import type { ReleaseItem } from '../../src/release/manifest.js';
import { modelPath } from '../../src/release/plan.js';
import { ROOT, blocks, checkoutFolder, readDoc, runBlock } from '../support/checkout.js';
import { CHROMIUM, Chromium, leastContrast } from '../support/chromium.js';
import { FileServer } from '../support/file-server.js';
import { serveFolder } from '../support/static-site.js';

const DEMO = join(ROOT, 'fixtures/demo/beit_demo_patch8_64.safetensors');
const SAMPLES = ['heart.jpg', 'star.png', 'ring.png'].map((name) => join(ROOT, 'fixtures/demo', name));
const [HEART, STAR] = SAMPLES;
const NAMES = [...PRECISIONS.keys()] as PrecisionName[];

/** Debian: apt-get install chromium. */
const browser = CHROMIUM === undefined ? describe.skip : describe;
if (CHROMIUM === undefined) console.warn('models run in no browser: there is no Chromium on this machine');

const FOLDERS: Readonly<Record<string, Partial<ReleaseItem>>> = {
  all: { dtype: NAMES },
  beside: { dtype: ['fp32', 'q8'], external_data: true },
  features: { task: 'features' },
  damaged: {},
};

interface Score {
  readonly label: string;
  readonly score: number;
}

let checkout: string;
let site: string;
let server: FileServer;
let chromium: Chromium;

/** The five best of every sample by our own command on the same file. */
async function ours(model: string, dtype: PrecisionName = 'fp32'): Promise<Map<string, Score[]>> {
  const path = join(site, 'models', model, modelPath(dtype));
  const { images } = await classify({ model: path, images: SAMPLES, top: 5 });
  return new Map(
    images.map(({ image, predictions }) => [
      image,
      predictions.map(({ label, probability }) => ({ label: label!, score: probability })),
    ]),
  );
}

/** Probabilities: another build's kernels round otherwise; where activations are rounded too, whole steps differ. */
const ALLOWED: Readonly<Record<PrecisionName, number>> = {
  fp32: 1e-6,
  fp16: 1e-5,
  q8: 1e-3,
  q4: 1e-3,
  q4f16: 1e-3,
  // Processors without VNNI saturate in onnxruntime-node; WebAssembly does not.
  int8: 5e-3,
  uint8: 5e-3,
};

function expectSame(found: readonly Score[], expected: readonly Score[], allowed: number): void {
  expect(found.map(({ label }) => label)).toEqual(expected.map(({ label }) => label));
  const most = Math.max(...found.map(({ score }, i) => Math.abs(score - expected[i].score)));
  expect(most).toBeLessThan(allowed);
}

const settled = async (of = chromium): Promise<void> => {
  await of.waitFor(`document.getElementById('main').ariaBusy === 'false'`);
};
const text = (id: string, of = chromium): Promise<string> =>
  of.evaluate(
    `(() => { const e = document.getElementById('${id}'); return e.hidden ? '' : e.textContent })()`,
  );
const scores = (of = chromium): Promise<Score[]> =>
  of.evaluate(
    `[...document.querySelectorAll('#classes li')].map((row) => ({ label: row.firstChild.textContent, score: Number(row.querySelector('data').value) }))`,
  );

async function open(query: string, of = chromium): Promise<void> {
  await of.open(`${server.origin}/index.html?${query}`);
  await settled(of);
}

/** As a person does: through the file chooser. */
async function choose(path: string): Promise<void> {
  const { root } = await chromium.send<{ root: { nodeId: number } }>('DOM.getDocument');
  const { nodeId } = await chromium.send<{ nodeId: number }>('DOM.querySelector', {
    nodeId: root.nodeId,
    selector: '#file',
  });
  await chromium.send('DOM.setFileInputFiles', { nodeId, files: [path] });
  await settled();
}

/** As a person does: by another entry of a list. */
async function select(id: string, value: string): Promise<void> {
  await chromium.evaluate(
    `{ const e = document.getElementById('${id}'); e.value = '${value}'; e.dispatchEvent(new Event('change')) }`,
  );
  await settled();
}

browser('a model in Chromium', () => {
  beforeAll(async () => {
    checkout = await checkoutFolder();
    site = join(checkout, 'site');
    const [make, ...more] = blocks(await readDoc('use-in-a-browser.md'), 'sh runnable');
    expect(more).toEqual([]);
    await runBlock(make, checkout);
    // Whether they are right is the business of other tests.
    for (const [name, item] of Object.entries(FOLDERS)) {
      const out = join(site, 'models', name);
      await convertFolder({ name, source: DEMO, ...item }, { out, verify: false });
    }
    await appendFile(join(site, 'models', 'damaged', modelPath('fp32')), 'x');
    server = await FileServer.start();
    serveFolder(server, '/', site);
    server.files.set('/', server.files.get('/index.html')!);
    chromium = new Chromium(CHROMIUM!);
  }, 120_000);
  afterEach(() => {
    server.always = {};
  });
  afterAll(async () => {
    await chromium.close();
    await server.stop();
    await rm(checkout, { recursive: true });
  });

  const elsewhere = (of = chromium): string[] =>
    of.requests().filter((url) => !url.startsWith(`${server.origin}/`));

  describe('the page', () => {
    it('says what convert-beit classify says, and asks nobody else', async () => {
      const [, query] = /localhost:8000\/\?(\S+)>/.exec(await readDoc('use-in-a-browser.md'))!;
      await chromium.open(`${server.origin}/?${query}`);
      await settled();
      expect(await text('error')).toBe('');
      expectSame(await scores(), (await ours('beit-demo')).get(HEART)!, ALLOWED.fp32);
      expect(await text('facts')).toMatch(/^beit-demo, fp32, on WebAssembly: \d+ ms\./);
      expect(chromium.complaints()).toEqual([]);
      expect(elsewhere()).toEqual([]);
    });

    it.each([
      [390, 'light'],
      [390, 'dark'],
      [1280, 'light'],
      [1280, 'dark'],
    ] as const)('is readable %i pixels wide, %s', async (width, theme) => {
      await chromium.view(width, theme);
      expect(await chromium.evaluate(`document.documentElement.scrollWidth`)).toBeLessThanOrEqual(width);
      const texts = 'h1, p, li, li data, label, input[type=text], select, button, #invite';
      expect(await chromium.evaluate(leastContrast(texts))).toBeGreaterThan(4.5);
      const png = await chromium.screenshot();
      await writeFile(join(checkout, `${width}-${theme}.png`), png);
      const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
      expect(info.width).toBe(width);
      const shown = new Set<number>();
      for (let i = 0; i < data.length; i += info.channels) shown.add(data.readUIntBE(i, 3));
      // The page, the longest bar, and the picture with its many colours.
      const [ground, bar] = theme === 'light' ? [0xf6f5f2, 0x2f6fb7] : [0x16171a, 0x6aa6e8];
      expect([shown.has(ground), shown.has(bar), shown.size > 1000]).toEqual([true, true, true]);
    });

    it.each(NAMES)('gives what onnxruntime-node gives: %s', async (dtype) => {
      if (dtype === NAMES[0]) await open('model=models/all/&image=heart.jpg');
      await select('precision', dtype);
      for (const [image, expected] of await ours('all', dtype)) {
        await choose(image);
        expect(await text('error')).toBe('');
        expectSame(await scores(), expected, ALLOWED[dtype]);
      }
      expect(chromium.requests().at(-1)).toBe(`${server.origin}/models/all/${modelPath(dtype)}`);
      expect(chromium.complaints()).toEqual([]);
    });

    it.each(['fp32', 'q8'] as const)('finds weights beside the model: %s', async (dtype) => {
      await open(`model=models/beside&dtype=${dtype}&image=heart.jpg`);
      expect(await text('error')).toBe('');
      expectSame(await scores(), (await ours('beside', dtype)).get(HEART)!, ALLOWED[dtype]);
      expect(chromium.requests()).toContain(`${server.origin}/models/beside/${modelPath(dtype)}_data`);
    });

    it('takes threads where the server allows them', async () => {
      server.always = {
        headers: {
          'cross-origin-opener-policy': 'same-origin',
          'cross-origin-embedder-policy': 'require-corp',
        },
      };
      await open('model=models/all/&image=heart.jpg');
      expect(await chromium.evaluate('crossOriginIsolated')).toBe(true);
      expect(await text('error')).toBe('');
      expectSame(await scores(), (await ours('all')).get(HEART)!, ALLOWED.fp32);
    });

    it.each([
      ['no folder', 'model=models/none/', /none\/\S+: the server answers 404\. Give the address of a folder/],
      ['no server', 'model=http://127.0.0.1:1/m/', /^http:\S+ cannot be reached\. Is its server running/],
      ['no classifier', 'model=models/features/', /^features gives last_hidden_state, .*no logits: it is no/],
      ['a damaged model', 'model=models/damaged/', /^onnx\/model\.onnx \(\d+ bytes\) is not the file/],
      [
        'no WebGPU',
        'model=models/all/&device=webgpu',
        /^This browser has no WebGPU here\. Choose WebAssembly/,
      ],
      ['no picture', 'model=models/all/&image=page.js', /^page\.js is no picture that this browser can read/],
      ['no such picture', 'model=models/all/&image=none.jpg', /^none\.jpg: the server answers 404/],
    ])('says what is wrong: %s', async (_, query, message) => {
      await open(query);
      expect(await text('error')).toMatch(message);
      expect(await scores()).toEqual([]);
      // And goes on from there.
      await chromium.evaluate(`document.getElementById('model').value = 'models/all/'`);
      await select('device', 'wasm');
      await choose(STAR);
      expect(await text('error')).toBe('');
      expect((await scores())[0].label).toBe('star');
    });
  });

  it('the page runs on WebGPU', async () => {
    const gpu = new Chromium(CHROMIUM!, ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']);
    try {
      await open('model=models/all/&device=webgpu&dtype=fp16', gpu);
      expect(await text('error', gpu)).toBe(
        'WebGPU has no float16 on this device, and fp16 needs it. Choose fp32 or q4.',
      );
      await open('model=models/all/&device=webgpu&image=heart.jpg', gpu);
      expect(await text('error', gpu)).toBe('');
      expect(await text('facts', gpu)).toContain('on WebGPU');
      expectSame(await scores(gpu), (await ours('all')).get(HEART)!, 1e-5);
      expect(gpu.complaints()).toEqual([]);
    } finally {
      await gpu.close();
    }
  }, 120_000);

  it('the page goes through a bundler as it is', async () => {
    const outDir = join(checkout, 'bundled');
    await build({
      root: join(ROOT, 'docs/examples/browser'),
      configFile: false,
      logLevel: 'silent',
      build: { outDir, emptyOutDir: true },
    });
    const bundled = await FileServer.start();
    try {
      serveFolder(bundled, '/', outDir);
      serveFolder(bundled, '/models/', join(site, 'models'));
      await chromium.open(`${bundled.origin}/index.html?model=models/beit-demo/`);
      await settled();
      await choose(HEART);
      expect(await text('error')).toBe('');
      expectSame(await scores(), (await ours('beit-demo')).get(HEART)!, ALLOWED.fp32);
      expect(chromium.requests().filter((url) => !url.startsWith(bundled.origin))).toEqual([]);
    } finally {
      await bundled.stop();
    }
  });

  it('transformers.js: the page of the docs', async () => {
    const [page] = blocks(await readDoc('use-in-a-browser.md'), 'html');
    const cdn = /https:\/\/cdn\.jsdelivr\.net\/npm\/@huggingface\/transformers@4/;
    expect(page).toMatch(cdn);
    // Its own copies of everything, from here.
    const local = page
      .replace(cdn, '/transformers/transformers.min.js')
      .replace('env.allow', "env.backends.onnx.wasm.wasmPaths = '/runtime/';\n  env.allow");
    serveFolder(server, '/runtime/', join(ROOT, 'node_modules/onnxruntime-web/dist'));
    serveFolder(server, '/transformers/', join(ROOT, 'node_modules/@huggingface/transformers/dist'));
    server.files.set('/transformers.html', {
      content: Buffer.from(local),
      headers: { 'content-type': 'text/html' },
    });
    await chromium.open(`${server.origin}/transformers.html`);
    await chromium.waitFor(`document.getElementById('answer').textContent.startsWith('[')`);
    const answer = JSON.parse(await text('answer')) as Score[];
    const expected = (await ours('beit-demo', 'q8')).get(HEART)!;
    expect(answer[0].label).toBe('heart');
    // A canvas resizes by rules of its own.
    for (const { label, score } of answer) {
      expect(score).toBeCloseTo(expected.find((each) => each.label === label)!.score, 2);
    }
    expect(elsewhere()).toEqual([]);
  });

  it('the ten lines of the model card run as they are', async () => {
    const card = await readFile(join(site, 'models/beit-demo/README.md'), 'utf8');
    const [, lines] = /^### onnxruntime, web\n\n```js\n([\s\S]*?)^```$/m.exec(card)!;
    // What they take for granted: the runtime under its package's name, and a picture.
    const imports = { 'onnxruntime-web': '/ort/ort.wasm.bundle.min.mjs' };
    const page = `<!doctype html><link rel="icon" href="data:," />
    <script type="importmap">${JSON.stringify({ imports })}</script>
    <script type="module">
      ${lines.replace("'cat.jpg'", "'/heart.jpg'")}
      globalThis.answer = Array.from(logits.data);
    </script>`;
    server.files.set('/models/beit-demo/card.html', {
      content: Buffer.from(page),
      headers: { 'content-type': 'text/html' },
    });
    await chromium.open(`${server.origin}/models/beit-demo/card.html`);
    await chromium.waitFor('globalThis.answer');
    const { samples } = JSON.parse(await readFile(join(ROOT, 'fixtures/demo/expected.json'), 'utf8')) as {
      samples: { file: string; logits_f64: number[] }[];
    };
    const expected = samples.find(({ file }) => file === 'heart.jpg')!.logits_f64;
    const found = await chromium.evaluate<number[]>('answer');
    // A canvas resizes by rules of its own.
    const error = expected.map((value, i) => Math.abs(value - found[i]));
    expect(Math.max(...error)).toBeLessThan(0.5);
    expect(chromium.complaints()).toEqual([]);
  });
});
