/**
 * What a conversion to weights did, for a person.
 */
import { basename } from 'node:path';
import { formatBytes } from '../../bytes.js';
import { listNames, printable } from '../../errors.js';
import type { WeightsResult } from '../../pipeline.js';
import { formatSeconds } from '../text.js';
import { fileLines, notesSection, sourceLines } from './result.js';
import { renderSections, type View } from './sections.js';

export function showWeights(result: WeightsResult, view: View): string[] {
  const { source, output, parity, seconds } = result;
  const { style } = view;
  const files = output.files ?? [output];
  const weights = output.tensors - output.buffers;
  const wrote = [
    ...files.flatMap((file) => fileLines(file, view)),
    `${output.layout} layout, ${output.container}: ${weights} tensors${output.buffers > 0 ? ` and ${output.buffers} index buffers` : ''}`,
    ...(output.dropped.length > 0 ? [style.yellow(`left out: ${listNames(output.dropped, 8)}`)] : []),
  ];
  const own = source.resized ? 'the source’s, or what resizing it gives again' : 'the source’s';
  const checked =
    parity.verdict === 'passed'
      ? `${style.green('passed')}: ${printable(basename(output.path), 300)} read back, every bit of every tensor is ${own}${output.added > 0 ? `, but for ${output.added} of zeros that the layout cannot be without` : ''}`
      : style.yellow('not checked');
  const steps = [
    `read ${formatSeconds(seconds.read)}`,
    `write ${formatSeconds(seconds.write)}`,
    ...(parity.verdict === 'skipped' ? [] : [`verify ${formatSeconds(seconds.verify)}`]),
  ];
  const notes = { ...source, notes: [...source.notes, ...result.notes] };
  return renderSections(
    [
      { title: 'read', lines: sourceLines(source, view) },
      { title: 'wrote', lines: wrote },
      { title: 'check', lines: [checked] },
      ...notesSection(notes, view),
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
