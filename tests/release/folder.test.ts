/** What lies in a folder besides its models. */
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { convertFolder, type FolderResult } from '../../src/release/one.js';
import type { ReportDocument } from '../../src/verify/report/data.js';
import { schemaErrors } from '../support/json-schema.js';

const root = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const DEMO = root('fixtures/demo/beit_demo_patch8_64.safetensors');
let folder: string;
let made: FolderResult;
const read = (name: string): Promise<string> => readFile(join(folder, 'demo', name), 'utf8');

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-beit-folder-'));
  made = await convertFolder(
    {
      name: 'demo',
      source: DEMO,
      dtype: ['fp32', 'fp16', 'q8'],
      license: 'mit',
      push: 'me/{name}',
      base_model: 'you/beit',
      metrics: { top1: 85.2 },
    },
    { out: join(folder, 'demo') },
  );
});
afterAll(() => rm(folder, { recursive: true }));

describe('a folder', () => {
  it('has a report of every file, as the schema says, with nothing of this machine or this moment', async () => {
    const text = await read('parity.json');
    const schema = JSON.parse(readFileSync(root('docs/report.schema.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    const { reports } = JSON.parse(text) as { reports: ReportDocument[] };
    expect(reports.map(({ files }) => files[0].name)).toEqual([
      'model.onnx',
      'model_fp16.onnx',
      'model_quantized.onnx',
    ]);
    for (const report of reports) {
      expect(schemaErrors(report, schema)).toEqual([]);
      expect(report.parity.verdict).toBe('passed');
      expect(report.machine).toBeUndefined();
      expect(report.parity.seconds).toBeUndefined();
      expect(report.command).toBe(
        'convert-beit --src beit_demo_patch8_64.safetensors --out demo/ --format hub --dtype fp32,fp16,q8',
      );
    }
    for (const name of ['parity.json', 'parity.html', 'parity.svg', 'README.md', 'config.json']) {
      const content = await read(name);
      expect(content, name).not.toContain(folder);
      expect(content, name).not.toContain(root(''));
      expect(content, name).not.toMatch(/\bundefined\b|\[object/);
    }
  });

  it('has one page for all of its files, whose charts have names of their own', async () => {
    const page = await read('parity.html');
    const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { path } of made.models)
      expect(page).toContain(`Parity report: ${path.slice('onnx/'.length)}`);
    expect(page).toMatch(/as near .* as this precision should give/);
  });

  it('has a card with the front matter of the hub', async () => {
    const card = await read('README.md');
    const [, front] = /^---\n([\s\S]*?)---\n/.exec(card)!;
    expect(parse(front)).toMatchObject({
      license: 'mit',
      library_name: 'transformers.js',
      pipeline_tag: 'image-classification',
      base_model: 'you/beit',
      base_model_relation: 'quantized',
      tags: expect.arrayContaining(['onnx', 'beit', 'fp16', 'q8']) as unknown,
      'model-index': [
        {
          results: [{ metrics: [{ name: 'Top 1 Accuracy (as published)', value: 85.2, verified: false }] }],
        },
      ],
    });
    expect(card).toContain("pipeline('image-classification', 'me/demo'");
    for (const { sha256 } of made.models) expect(card).toContain(sha256);
    // Ten lines of code each.
    for (const [, body] of card.matchAll(/```(?:js|python)\n([\s\S]*?)```/g)) {
      expect(
        body
          .trim()
          .split('\n')
          .filter((line) => line !== '').length,
      ).toBeLessThanOrEqual(10);
    }
  });

  it.each([
    ['features', 'v1_cls', 'features', 'image-feature-extraction'],
    ['masked-image', 'mim_v1', undefined, 'image-feature-extraction'],
    ['segment', 'segmentation', undefined, 'image-segmentation'],
  ] as const)('of another task: %s', async (task, golden, asked, tag) => {
    const file = golden === 'segmentation' ? 'hf' : 'official';
    const source = root(`fixtures/goldens/${golden}/${file}.safetensors`);
    const config = golden === 'segmentation' ? root('fixtures/goldens/segmentation/config.json') : undefined;
    const out = join(folder, task);
    const { models } = await convertFolder({ name: task, source, config, task: asked }, { out });
    expect(models.map(({ parity }) => parity.verdict)).toEqual(['passed']);
    const card = await readFile(join(out, 'README.md'), 'utf8');
    expect(card).toContain(`pipeline_tag: ${tag}`);
    expect(card).not.toMatch(/undefined|NaN/);
    expect(card).toContain('### onnxruntime, Python');
    // A client that has no such BEiT is not promised.
    const knowsIt = task === 'features';
    expect(card.includes('library_name: transformers.js')).toBe(knowsIt);
    expect(card.includes("'@huggingface/transformers'")).toBe(knowsIt);
    expect(card.includes('bool_masked_pos')).toBe(task === 'masked-image');
  });

  it('takes class names from a file, and refuses one that has too few', async () => {
    const labels = join(folder, 'names.txt');
    const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    await writeFile(labels, names.join('\n'));
    const out = join(folder, 'named');
    await convertFolder({ name: 'named', source: DEMO, labels }, { out, verify: false });
    const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as { id2label: object };
    expect(Object.values(config.id2label)).toEqual(names);
    await writeFile(labels, 'a\nb\n');
    await expect(
      convertFolder({ name: 'few', source: DEMO, labels }, { out: join(folder, 'few'), verify: false }),
    ).rejects.toThrow(/2 class names for a head of 8 classes/);
  });
});
