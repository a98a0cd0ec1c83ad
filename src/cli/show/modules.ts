/**
 * What a model is made of and what its weights look like, for a person.
 */
import { printable } from '../../errors.js';
import type { Inspection } from '../../pipeline.js';
import type { ModuleCost } from '../../modules.js';
import { renderTable } from '../table.js';
import { formatCount, formatInteger } from '../text.js';
import { describePreprocessing } from './describe.js';
import type { Section, View } from './sections.js';

/** Published figures beside the computed ones, and how pictures are prepared and why. */
export function costSections(
  { published = [], preprocessing, statistics }: Inspection,
  { style }: View,
): Section[] {
  const sections: Section[] = [];
  if (published.length > 0) {
    sections.push({
      title: 'figures',
      lines: published.map(
        ({ what, value, by }) => `published ${what === 'flops' ? 'FLOPs' : what}: ${value} (${by})`,
      ),
    });
  }
  if (preprocessing) sections.push({ title: 'pictures', lines: [describePreprocessing(preprocessing)] });
  if (statistics) {
    const odd = statistics.unusual.map((each) => style.yellow(printable(each, 400)));
    sections.push({
      title: 'weights',
      lines:
        odd.length > 0
          ? odd
          : ['nothing unusual: no NaN, no infinities, no zero tables, nothing beyond float16'],
    });
  }
  return sections;
}

/** The tree of modules, one line each. */
export function moduleLines(tree: ModuleCost | undefined, { style, width }: View): string[] {
  if (!tree) return [];
  const rows: string[][] = [];
  const visit = (node: ModuleCost, indent: string, last: boolean, root: boolean): void => {
    const branch = root ? '' : `${indent}${last ? '└ ' : '├ '}`;
    const times = node.times === undefined ? '' : ` ×${node.times}`;
    rows.push([
      `${branch}${node.name}${times}`,
      node.what,
      node.parameters === 0 ? '' : formatInteger(node.parameters),
      node.flops === 0 ? '' : formatCount(node.flops),
    ]);
    const deeper = root ? '' : `${indent}${last ? '  ' : '│ '}`;
    node.children.forEach((child, i) => {
      visit(child, deeper, i === node.children.length - 1, false);
    });
  };
  visit(tree, '', true, true);
  const { lines } = renderTable(
    {
      columns: [
        { title: 'module', shrinkTo: 16 },
        { title: 'what', shrinkTo: 8, cut: 'end', optional: 1 },
        { title: 'parameters', align: 'right' },
        { title: 'FLOPs', align: 'right' },
      ],
      rows,
    },
    width,
    style,
  );
  return [...lines, ''];
}

/** What `--stats` read, one line for each tensor. */
export function statisticsLines({ statistics }: Inspection, { style, width }: View): string[] {
  if (!statistics) return [];
  const number = (value: number): string => (value === 0 ? '0' : value.toPrecision(3));
  const { lines } = renderTable(
    {
      columns: [
        { title: 'weights', shrinkTo: 24 },
        { title: 'min', align: 'right' },
        { title: 'max', align: 'right' },
        { title: 'mean', align: 'right' },
        { title: 'std', align: 'right' },
        { title: 'NaN/Inf', align: 'right', optional: 1 },
      ],
      rows: [...statistics.tensors].map(([name, of]) => [
        printable(name, 200),
        number(of.min),
        number(of.max),
        number(of.mean),
        number(of.std),
        String(of.nan + of.infinite),
      ]),
    },
    width,
    style,
  );
  return [...lines, ''];
}
