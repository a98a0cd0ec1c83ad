/** Reports of real runs: by schema, as Markdown, and as a page in a browser. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ParityError, UsageError } from '../../src/errors.js';
import { convert, verify } from '../../src/pipeline.js';
import { commandLine } from '../../src/verify/report/command.js';
import type { ReportDocument } from '../../src/verify/report/data.js';
import { htmlReport } from '../../src/verify/report/html.js';
import { escapeMarkdown, markdownReport } from '../../src/verify/report/markdown.js';
import { runCompiled } from '../cli/harness.js';
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
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('report.json', () => {
  it.each([['good.json'], ['bad.json']])('%s is what docs/report.schema.json says', (name) => {
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
});

/** Debian: apt-get install chromium. */
const browser = CHROMIUM === undefined ? describe.skip : describe;
if (CHROMIUM === undefined) console.warn('report.html is not opened: there is no Chromium on this machine');

const TEXTS = '.verdict p, .verdict dt, td, th, dd, dt, figcaption, h2, code';

browser('report.html in Chromium', () => {
  const pages = [
    { name: 'good.html', verdict: 'Parity passed', pictures: 2 },
    { name: 'bad.html', verdict: 'Parity failed', pictures: 0 },
  ];
  it.each(pages)('$name', async ({ name, verdict, pictures }) => {
    const chromium = new Chromium(CHROMIUM!);
    try {
      const url = pathToFileURL(at(name)).href;
      await chromium.open(url);
      expect(await chromium.evaluate<string>(`document.querySelector('.verdict .big').textContent`)).toBe(
        verdict,
      );
      // Verdict first.
      expect(
        await chromium.evaluate<boolean>(
          `document.querySelector('main').firstElementChild.classList.contains('verdict')`,
        ),
      ).toBe(true);
      const charts = await chromium.evaluate<string[]>(
        `[...document.querySelectorAll('svg[role=img]')].filter((svg) => svg.getBoundingClientRect().height > 80 && svg.querySelector('desc').textContent.length > 40).map((svg) => svg.querySelector('title').id)`,
      );
      expect(charts).toEqual(['layers-t', 'histogram-t', 'scatter-t', 'weights-t']);
      expect(
        await chromium.evaluate<number>(
          `[...document.images].filter((image) => image.naturalWidth > 0).length`,
        ),
      ).toBe(pictures);

      const background = `getComputedStyle(document.body).backgroundColor`;
      const looks: string[] = [];
      for (const theme of ['light', 'dark']) {
        await chromium.send('Emulation.setEmulatedMedia', {
          features: [{ name: 'prefers-color-scheme', value: theme }],
        });
        looks.push(await chromium.evaluate<string>(background));
        expect(await chromium.evaluate<number>(leastContrast(TEXTS)), theme).toBeGreaterThan(4.5);
      }
      expect(looks[0]).not.toBe(looks[1]);
      await chromium.send('Emulation.setEmulatedMedia', { media: 'print', features: [] });
      expect(await chromium.evaluate<string>(background)).toBe('rgb(255, 255, 255)');
      await chromium.send('Emulation.setEmulatedMedia', { media: '', features: [] });

      // Nothing is wider than a phone; wide tables scroll by themselves.
      for (const width of [390, 1280]) {
        await chromium.send('Emulation.setDeviceMetricsOverride', {
          width,
          height: 800,
          deviceScaleFactor: 1,
          mobile: width < 500,
        });
        expect(
          await chromium.evaluate<number>('document.documentElement.scrollWidth'),
          String(width),
        ).toBeLessThanOrEqual(width);
      }

      expect(chromium.complaints()).toEqual([]);
      expect(chromium.requests()).toEqual([url]);
    } finally {
      await chromium.close();
    }
  });
});
