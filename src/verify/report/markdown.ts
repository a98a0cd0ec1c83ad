/** The report as Markdown, for release notes and issues. */
import { units } from '../checks/logits.js';
import type { ReportDocument } from './data.js';
import {
  VERDICTS,
  called,
  fileFacts,
  headlineFacts,
  inputColumns,
  inputRows,
  layersSentence,
  machineFacts,
  outcomeOf,
  outputColumns,
  outputLimits,
  outputRows,
  sourceFacts,
  verdictSentence,
  type Fact,
} from './facts.js';

/** Names come from files: nothing in them may start markup, break a table or a line. */
export function escapeMarkdown(text: string): string {
  return text.replace(/[\\`*_{}[\]<>()#!|~]/g, '\\$&').replace(/\s+/g, ' ');
}

const m = escapeMarkdown;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)];
}

function facts(all: readonly Fact[]): string[] {
  return table(
    ['', ''],
    all.map(({ name, value }) => [m(name), m(value)]),
  );
}

/** As many backticks as the text has in a row, and one more. */
function fenced(text: string): string[] {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  return [`${fence}sh`, text, fence];
}

export function markdownReport(document: ReportDocument): string {
  const { parity, command, unusual, files } = document;
  const lines = [
    `## ${VERDICTS[parity.verdict]}: ${m(files[0]?.name ?? '')}`,
    '',
    m(verdictSentence(document)),
    '',
    ...facts([
      ...headlineFacts(document),
      ...fileFacts(document),
      ...sourceFacts(document),
      ...machineFacts(document),
    ]),
  ];
  if (parity.checks.length > 0) {
    lines.push(
      '',
      '### Checks',
      '',
      ...table(
        ['check', 'outcome', 'what was found'],
        parity.checks.map((check) => [check.name, outcomeOf(check), m(check.detail)]),
      ),
    );
  }
  if (parity.layers) {
    const { points, suspects } = parity.layers;
    lines.push('', '### Layer by layer', '', m(layersSentence(parity.layers)));
    if (suspects.length > 1)
      lines.push('', ...suspects.slice(1, 6).map(({ mistake }) => `- would fit as well: ${m(mistake)}`));
    if (points.length > 0) {
      lines.push(
        '',
        ...table(
          ['after', 'rms error', 'expected noise', 'times'],
          points.map(({ name, rms, noise, units: of }) => [
            m(name),
            rms.toExponential(1),
            noise.toExponential(1),
            units(of),
          ]),
        ),
      );
    }
  }
  if (parity.outputs) {
    const { outputs, inputs } = parity;
    lines.push(
      '',
      '### Output by output',
      '',
      m(outputLimits(outputs)),
      '',
      ...table(
        outputColumns(outputs).map(({ title }) => m(title)),
        outputRows(outputs.slice(0, 40)).map((row) => row.map(m)),
      ),
      '',
      ...table(
        inputColumns(outputs, inputs).map(({ title }) => m(title)),
        inputRows(outputs, inputs.slice(0, 40)).map((row) => row.map(m)),
      ),
    );
  } else if (parity.inputs.length > 0) {
    lines.push(
      '',
      '### Output by output',
      '',
      ...table(
        ['input', 'max \\|error\\|', 'noise units', 'best class by file', 'by source'],
        parity.inputs
          .slice(0, 40)
          .map(({ name, maxAbs, noiseUnits, written, oracle }) => [
            m(name),
            maxAbs.toExponential(1),
            units(noiseUnits),
            m(called(written[0])),
            m(called(oracle[0])),
          ]),
      ),
    );
  }
  if (unusual.length > 0) lines.push('', '### Unusual weights', '', ...unusual.map((each) => `- ${m(each)}`));
  lines.push('', '### How to make this report again', '', ...fenced(command), '');
  return lines.join('\n');
}
