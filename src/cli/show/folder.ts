/** One model's folder, for a person. */
import { formatBytes } from '../../bytes.js';
import { printable } from '../../errors.js';
import type { FolderResult } from '../../release/index.js';
import { formatSeconds } from '../text.js';
import { describeConfig, describePreprocessing } from './describe.js';
import { renderSections, type View } from './sections.js';

export function showFolder(result: FolderResult, { style, width, said }: View): string[] {
  const { source, models, files, path, seconds } = result;
  const notes = source.notes.filter((note) => !said.has(note));
  const shown = (value: number | undefined): string =>
    value === undefined ? '' : `, cosine ${value.toFixed(7)}`;
  return renderSections(
    [
      { title: 'read', lines: [printable(source.id, 300), describeConfig(source.config)] },
      {
        title: 'wrote',
        lines: [
          printable(path, 300),
          ...files.map((file) => `  ${file.path}  ${style.dim(formatBytes(file.bytes))}`),
        ],
      },
      {
        title: 'parity',
        lines: models.map(
          ({ dtype, parity }) =>
            `${dtype}: ${parity.verdict === 'passed' ? style.green('passed') : parity.verdict}${shown(parity.cosine)}`,
        ),
      },
      { title: 'takes', lines: [describePreprocessing(source.preprocessing)] },
      ...(notes.length > 0 ? [{ title: 'notes', lines: notes.map((note) => printable(note, 400)) }] : []),
      { title: 'took', lines: [formatSeconds(seconds)] },
    ],
    width,
    style,
  );
}
