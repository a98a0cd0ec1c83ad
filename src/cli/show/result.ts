/**
 * What a conversion or a verification did, for a person.
 */
import { basename } from 'node:path';
import { formatBytes } from '../../bytes.js';
import { printable } from '../../errors.js';
import type { ConvertResult, FileSummary, SourceSummary, VerifyResult } from '../../pipeline.js';
import type { ParityReport } from '../../verify/report.js';
import { formatSeconds } from '../text.js';
import {
  describeConfig,
  describeCost,
  describeFile,
  describeLabels,
  describePort,
  describePreprocessing,
  describeVersion,
} from './describe.js';
import { isPicture, parityLines, predictionLines } from './parity.js';
import { renderSections, sectionWidth, type Section, type View } from './sections.js';

export function showConversion(result: ConvertResult, view: View): string[] {
  const { source, output, parity, seconds } = result;
  // One file is told as it always was.
  const files = result.files.length > 1 ? result.files : [result];
  const { style } = view;
  const written = [
    ...files.flatMap((file) => [
      ...fileLines(file.output, view, file.output.precision === 'fp32' ? undefined : file.output.precision),
      ...(file.output.externalData ? fileLines(file.output.externalData, view) : []),
    ]),
    `opset ${output.opset}, IR version ${output.irVersion}`,
    `${output.inputs.map(describePort).join(', ')} → ${output.outputs.map(describePort).join(', ')}`,
  ];
  const steps = [
    `read ${formatSeconds(seconds.read)}`,
    `write ${formatSeconds(seconds.write)}`,
    ...(parity.verdict === 'skipped' ? [] : [`verify ${formatSeconds(seconds.verify)}`]),
  ];
  return renderSections(
    [
      { title: 'read', lines: sourceLines(source, view) },
      { title: 'wrote', lines: written },
      ...files.flatMap(({ output: { path }, parity: each }) =>
        paritySections(each, source, view, files.length > 1 ? basename(path) : undefined),
      ),
      ...notesSection(source, view),
      {
        title: 'took',
        lines: [
          `${formatSeconds(seconds.total)} ${style.dim(`(${steps.join(', ')})`)}, peak memory ${formatBytes(result.peakMemoryBytes)}`,
        ],
      },
    ],
    view.width,
    style,
  );
}

export function showVerification(result: VerifyResult, view: View): string[] {
  const { source, file, parity } = result;
  return renderSections(
    [
      { title: 'source', lines: sourceLines(source, view) },
      { title: 'model', lines: fileLines(file, view) },
      ...paritySections(parity, source, view),
      ...notesSection(source, view),
      {
        title: 'took',
        lines: [`${formatSeconds(result.seconds)}, peak memory ${formatBytes(result.peakMemoryBytes)}`],
      },
    ],
    view.width,
    view.style,
  );
}

export function sourceLines(source: SourceSummary, { style }: View): string[] {
  const prefix = source.prefix === undefined ? '' : `, prefix ${printable(source.prefix)} stripped`;
  const { id, commit, files } = source;
  // A local file is called by its own name: once is enough.
  const [only] = files.length === 1 && files[0].name === id ? files : [];
  return [
    style.bold(printable(id, 300)) + (only ? `, ${formatBytes(only.bytes)}` : ''),
    ...(commit === undefined ? [] : [`commit ${printable(commit)}`]),
    ...files.flatMap(({ name, bytes, sha256 }) => [
      ...(only ? [] : [describeFile(name, bytes)]),
      ...(sha256 === undefined ? [] : [style.dim(`sha256 ${printable(sha256)}`)]),
    ]),
    `${source.container}, ${source.layout} layout${prefix}`,
    describeVersion(source.version, source.versionEvidence),
    describeConfig(source.config),
    ...(source.labels ? [describeLabels(source.labels)] : []),
    describeCost(source),
  ];
}

export function fileLines(file: FileSummary, { style }: View, precision?: string): string[] {
  const how = precision === undefined ? '' : `, ${precision}`;
  return [
    `${style.bold(printable(basename(file.path), 300))}${how}, ${formatBytes(file.bytes)}`,
    ...(file.sha256 === undefined ? [] : [style.dim(`sha256 ${file.sha256}`)]),
  ];
}

function paritySections(parity: ParityReport, source: SourceSummary, view: View, file?: string): Section[] {
  const lines = [
    ...(file === undefined ? [] : [view.style.bold(printable(file, 300))]),
    ...parityLines(parity, view.style, view.verbose),
  ];
  const sections: Section[] = [{ title: 'parity', lines }];
  const pictures = parity.inputs.filter(isPicture);
  if (pictures.length > 0) {
    sections.push({
      title: 'images',
      lines: [
        ...pictures.flatMap((input) => predictionLines(input, sectionWidth(view.width), view.style)),
        view.style.dim(describePreprocessing(source.preprocessing)),
      ],
    });
  }
  return sections;
}

/** Notes that were not on the screen already. */
export function notesSection(source: SourceSummary, view: View): Section[] {
  const lines = source.notes.filter((note) => !view.said.has(note)).map((note) => printable(note, 400));
  return lines.length === 0 ? [] : [{ title: 'notes', lines }];
}
