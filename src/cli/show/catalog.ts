/**
 * The catalog as a table.
 */
import { printable } from '../../errors.js';
import type { CatalogEntry } from '../../pipeline.js';
import { renderTable } from '../table.js';
import { formatCount } from '../text.js';
import type { View } from './sections.js';

const percent = (value: number | undefined): string => (value === undefined ? '-' : value.toFixed(1));
const count = (value: number | undefined): string => (value === undefined ? '-' : formatCount(value));

export function showCatalog(
  models: readonly CatalogEntry[],
  { style, width }: Pick<View, 'style' | 'width'>,
): string[] {
  const { lines, hidden } = renderTable(
    {
      columns: [
        { title: 'name' },
        { title: 'ver', optional: 3 },
        { title: 'px', align: 'right', optional: 2 },
        { title: 'classes', align: 'right' },
        { title: 'params', align: 'right', optional: 4 },
        { title: 'FLOPs', align: 'right', optional: 6 },
        { title: 'top-1', align: 'right', optional: 1 },
        { title: 'top-5', align: 'right', optional: 5 },
        { title: 'from', optional: 7, shrinkTo: 10, cut: 'end' },
      ],
      rows: models.map((model) => [
        (model.publisher === 'official' ? model.name : model.src) + (model.isDefault ? ' *' : ''),
        `v${model.version}`,
        String(model.imageSize),
        model.task === 'classification' ? String(model.classes) : model.task,
        count(model.parameters),
        count(model.flops),
        percent(model.top1),
        percent(model.top5),
        printable(model.source),
      ]),
    },
    width,
    style,
  );
  const chosen = models.find((model) => model.isDefault);
  return [
    ...lines,
    '',
    ...(chosen
      ? ['* --src official; any other row: --src official:<name>, where no other prefix is shown']
      : []),
    ...(models.some((model) => model.task === 'pre-training')
      ? ['pre-training: no classifier; an ONNX file of one predicts masked patches (--task masked-image)']
      : []),
    ...(hidden.length > 0
      ? [style.dim(`no room for ${hidden.join(', ')}: see --json, or a wider terminal`)]
      : []),
  ];
}
