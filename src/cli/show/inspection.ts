/**
 * What a checkpoint is, for a person: a summary, then every tensor.
 */
import { formatBytes } from '../../bytes.js';
import { printable } from '../../errors.js';
import type { Inspection } from '../../pipeline.js';
import { renderTable } from '../table.js';
import { formatInteger } from '../text.js';
import {
  describeBlocks,
  describeConfig,
  describeCostExactly,
  describeFile,
  describeKind,
  describeLabels,
  describeVersion,
} from './describe.js';
import { costSections, moduleLines, statisticsLines } from './modules.js';
import { renderSections, type Section, type View } from './sections.js';

/** More files than this are counted. */
const MOST_FILES = 8;
const MOST_METADATA = 12;
/** Of what a pickle holds beside the weights. */
const MOST_ENTRIES = 16;
/** A name longer than this is cut even where there is room. */
const LONGEST_NAME = 200;

export function showInspection(inspection: Inspection, view: View): string[] {
  const { style, width } = view;
  return [
    ...renderSections(summary(inspection, view), width, style),
    '',
    ...moduleLines(inspection.modules, view),
    ...statisticsLines(inspection, view),
    ...tensorLines(inspection, view),
  ];
}

function summary(inspection: Inspection, view: View): Section[] {
  const { style, said } = view;
  const { id, commit, files, kind, config, parameters, flops, problem, layout, prefix, labels } = inspection;
  const [only] = files.length === 1 && files[0].name === id ? files : [];
  const sections: Section[] = [
    {
      title: 'source',
      lines: [
        style.bold(printable(id, 300)) + (only ? `, ${formatBytes(only.bytes)}` : ''),
        ...(commit === undefined ? [] : [`commit ${printable(commit)}`]),
        ...(only ? [] : files.slice(0, MOST_FILES).map(({ name, bytes }) => describeFile(name, bytes))),
        ...(files.length > MOST_FILES ? [`and ${files.length - MOST_FILES} more files`] : []),
      ],
    },
    {
      title: 'layout',
      lines: [
        `${printable(inspection.container)}, ${layout === undefined ? 'no layout known here' : `${printable(layout)} layout`}` +
          (prefix === undefined ? '' : `, prefix ${printable(prefix)} stripped`),
      ],
    },
    { title: 'version', lines: [describeVersion(inspection.version, inspection.versionEvidence)] },
  ];
  if (kind) sections.push({ title: 'kind', lines: [describeKind(kind, config)] });
  if (config) {
    sections.push({
      title: 'config',
      lines: [
        describeConfig(config),
        describeBlocks(config),
        ...(labels
          ? [describeLabels({ count: labels.length, origin: inspection.labelsOrigin ?? 'the checkpoint' })]
          : []),
      ],
    });
  }
  if (parameters !== undefined && flops !== undefined) {
    sections.push({ title: 'cost', lines: [describeCostExactly({ parameters, flops })] });
  } else {
    sections.push({
      title: 'size',
      lines: [
        `${formatInteger(inspection.weightElements)} floating-point numbers in ${formatBytes(inspection.bytes)}`,
      ],
    });
  }
  sections.push(...costSections(inspection, view));
  if (problem) {
    sections.push({
      title: 'problem',
      lines: [
        style.red(`cannot be converted: ${sentence(problem.message)}`),
        ...(problem.next === undefined ? [] : [`next: ${sentence(problem.next)}`]),
      ],
    });
  }
  if (inspection.contents) sections.push(...contentSections(inspection.contents));
  const metadata = inspection.metadata.slice(0, MOST_METADATA);
  if (metadata.length > 0) {
    const rest = inspection.metadata.length - metadata.length;
    sections.push({
      title: 'metadata',
      lines: [
        ...metadata.map(([key, value]) => `${printable(key, 60)}: ${printable(value, 160)}`),
        ...(rest > 0 ? [`and ${rest} more`] : []),
      ],
    });
  }
  const notes = inspection.notes.filter((note) => !said.has(note));
  if (notes.length > 0) sections.push({ title: 'notes', lines: notes.map((note) => printable(note, 400)) });
  return sections;
}

/** Where in a pickle the weights were found, and what else is there. Texts are printable already. */
function contentSections(contents: NonNullable<Inspection['contents']>): Section[] {
  const { weightsAt, entries, inert, inertCount } = contents;
  const lines = (rows: typeof entries, total: number): string[] => [
    ...rows.slice(0, MOST_ENTRIES).map(({ path, what }) => `${path}: ${what}`),
    ...(total > MOST_ENTRIES ? [`and ${formatInteger(total - MOST_ENTRIES)} more`] : []),
  ];
  return [
    { title: 'weights', lines: [weightsAt === '' ? 'at the top level' : `at ${printable(weightsAt, 200)}`] },
    ...(entries.length > 0 ? [{ title: 'beside', lines: lines(entries, entries.length) }] : []),
    ...(inertCount > 0 ? [{ title: 'inert', lines: lines(inert, inertCount) }] : []),
  ];
}

/** An error's own text: its foreign parts went through `printable` already, its length is its own business. */
function sentence(text: string): string {
  return printable(text, 4000);
}

function tensorLines(inspection: Inspection, { style, width }: View): string[] {
  const { tensors } = inspection;
  const { lines, hidden } = renderTable(
    {
      columns: [
        { title: 'tensor', shrinkTo: 24 },
        { title: 'canonical name', shrinkTo: 24, optional: 1 },
        { title: 'dtype' },
        { title: 'shape', align: 'right' },
        { title: 'size', align: 'right', optional: 2 },
      ],
      rows: tensors.map((tensor) => [
        printable(tensor.source, LONGEST_NAME),
        tensor.role === 'weight'
          ? printable(tensor.canonical ?? '', LONGEST_NAME)
          : tensor.role === 'buffer'
            ? '(rebuilt)'
            : `(${tensor.role})`,
        tensor.dtype,
        tensor.shape.length === 0 ? 'scalar' : tensor.shape.join('×'),
        formatBytes(tensor.bytes),
      ]),
    },
    width,
    style,
  );
  const total = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  return [
    ...lines,
    '',
    `${formatInteger(tensors.length)} ${tensors.length === 1 ? 'tensor' : 'tensors'}, ${formatBytes(total)}`,
    ...(hidden.length > 0
      ? [style.dim(`no room for ${hidden.join(', ')}: see --json, or a wider terminal`)]
      : []),
  ];
}
