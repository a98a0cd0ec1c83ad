import type { ReportDocument } from '../../src/verify/report/data.js';
import { verdictSentence } from '../../src/verify/report/facts.js';
import { describe, expect, it } from 'vitest';
import { formatReport, type Check, type ParityReport } from '../../src/verify/report.js';

const names = ['structure', 'inventory', 'provenance', 'logits'] as const;
const passed = (name: Check['name']): Check => ({
  name,
  passed: true,
  detail: `${name} is fine`,
  findings: [],
});
const failed = (name: Check['name'], ...findings: string[]): Check => ({
  name,
  passed: false,
  detail: findings[0],
  findings,
});
const prediction = (index: number, probability: number, label?: string) => ({
  class: index,
  probability,
  logit: 1,
  ...(label === undefined ? {} : { label }),
});

function report(changes: Partial<ParityReport>, checks: readonly Check[] = []): ParityReport {
  const byName = new Map(checks.map((check) => [check.name, check]));
  return {
    verdict: checks.length === 0 ? 'passed' : 'failed',
    checks: names.map((name) => byName.get(name) ?? passed(name)),
    logits: {
      maxAbs: 6e-7,
      maxRel: 2e-7,
      cosine: 0.99999999999,
      noiseUnits: 2,
      noiseUnitsAllowed: 48,
      expectedNoise: 3e-7,
      top1Agreement: 1,
      top5Agreement: 1,
    },
    inputs: [],
    runtime: { name: 'onnxruntime-node', version: '1.2.3' },
    seconds: 1.26,
    ...changes,
  };
}

describe('formatReport', () => {
  it('passed', () => {
    const written = [
      prediction(3, 0.712, 'tabby'),
      prediction(1, 0.2),
      prediction(2, 0.05),
      prediction(4, 0.01),
    ];
    const inputs = [{ name: 'cat.png', maxAbs: 6e-7, noiseUnits: 2.04, written, oracle: written }];
    expect(formatReport(report({ inputs }))).toEqual([
      'parity passed: the file computes what the source computes (cosine 1.000000000, onnxruntime-node 1.2.3, 1.3 s)',
      '  structure   ok      structure is fine',
      '  inventory   ok      inventory is fine',
      '  provenance  ok      provenance is fine',
      '  logits      ok      logits is fine',
      '  cat.png: max |error| 6.0e-7, 2.0 noise units; best: tabby 71.2 %, class 1 20.0 %, class 2 5.0 %',
    ]);
  });

  it.each([
    ['fp16', 'the file is as good as fp16 should be'],
    [undefined, 'the file computes what the source computes'],
  ])('a file of %s that gives features says what is true of it', (precision, what) => {
    const changes = { logits: undefined, outputs: [], ...(precision !== undefined && { precision }) };
    const [line] = formatReport(report(changes));
    expect(line).toBe(`parity passed: ${what} (onnxruntime-node 1.2.3, 1.3 s)`);
    const document = { parity: report(changes), source: { id: 'beit.pth' } } as ReportDocument;
    const sentence = verdictSentence(document);
    expect(sentence).toMatch(precision ? /within the quality limits of fp16\.$/ : /^The file computes what/);
    expect(sentence).toContain('its outputs are as near');
  });

  it('skipped', () => {
    expect(formatReport({ verdict: 'skipped', checks: [], inputs: [], seconds: 0 })).toEqual([
      'parity not checked',
    ]);
  });

  it('unreadable', () => {
    const rest = names.slice(1).map((name): Check => ({
      name,
      passed: false,
      notRun: true,
      detail: 'not run: the file cannot be read',
      findings: [],
    }));
    const checks = [failed('structure', 'm.onnx is empty'), ...rest];
    expect(formatReport({ verdict: 'failed', checks, inputs: [], seconds: 0.04 })).toEqual([
      'parity FAILED: structure (0.0 s)',
      '  structure   FAILED  m.onnx is empty',
      '  inventory   -       not run: the file cannot be read',
      '  provenance  -       not run: the file cannot be read',
      '  logits      -       not run: the file cannot be read',
    ]);
  });

  it('lists the findings below the check, and stops counting out at eight', () => {
    const findings = Array.from({ length: 12 }, (_, i) => `finding ${i}`);
    const lines = formatReport(
      report({}, [{ ...failed('inventory', ...findings), detail: 'finding 0 (and 11 more)' }]),
    );
    expect(lines.slice(2, 5)).toEqual([
      '  inventory   FAILED  finding 0 (and 11 more)',
      '                      finding 0',
      '                      finding 1',
    ]);
    expect(lines[11]).toBe('                      and 4 more');
  });

  it.each<[string, readonly Check[], Partial<ParityReport>, string]>([
    [
      'altered weights',
      [failed('provenance', 'x'), failed('logits', 'y')],
      {},
      'The weights in the file are not those of the source',
    ],
    [
      'missing tensors',
      [failed('inventory', 'x'), failed('logits', 'y')],
      {},
      'The file has not the tensors of this source',
    ],
    [
      'tanh',
      [failed('structure', 'x'), failed('logits', 'y')],
      {},
      'The graph differs from BEiT where the structure check says',
    ],
    [
      'epsilon',
      [failed('structure', 'x')],
      {},
      'The graph differs from BEiT, though these inputs do not show it',
    ],
    ['small error', [failed('logits', 'y')], {}, 'All weights are right, the computation is slightly off'],
    [
      'large error',
      [failed('logits', 'y')],
      { logits: { ...report({}).logits!, maxRel: 0.3 } },
      'All weights are right, the computation is not',
    ],
  ])('names the kind of mistake: %s', (_, checks, changes, line) => {
    expect(formatReport(report(changes, checks)).join('\n')).toContain(`  ${line}`);
  });

  it('shows both opinions when they differ, and bounds the list of inputs', () => {
    const [ours, theirs] = [[prediction(1, 0.5)], [prediction(2, 0.5)]];
    const inputs = Array.from({ length: 10 }, (_, i) => ({
      name: `#${i}`,
      maxAbs: 1,
      noiseUnits: 1e7,
      written: ours,
      oracle: theirs,
    }));
    const lines = formatReport(report({ inputs }, [failed('logits', 'y')]));
    expect(lines).toContain('    by the source: class 2 50.0 %');
    expect(lines.at(-1)).toBe('  and 2 more inputs');
  });

  it('lets no foreign text move the cursor', () => {
    const written = [prediction(1, 0.5, '\u001b[2Jcat')];
    const inputs = [{ name: '\u001b]0;x', maxAbs: 0, noiseUnits: 0, written, oracle: written }];
    expect(formatReport(report({ inputs })).join('\n')).not.toMatch(/\u001b/);
  });
});
