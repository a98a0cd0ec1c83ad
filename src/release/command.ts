/** The command that makes one folder of a release again, free of this machine's paths. */
import { basename } from 'node:path';
import type { SourceSummary } from '../results.js';
import { commandLine } from '../verify/report/command.js';
import type { ReleaseItem } from './manifest.js';

export function commandOf(item: ReleaseItem, { id }: Pick<SourceSummary, 'id'>): string {
  const { image_size: size, config, labels } = item;
  const file = (flag: string, path: string | undefined): readonly [string, string] | undefined =>
    path === undefined ? undefined : [flag, basename(path)];
  return commandLine(
    [],
    [
      ['--src', id],
      ['--out', `${item.name}/`],
      ['--format', 'hub'],
      item.task && ['--task', item.task],
      item.dtype && ['--dtype', item.dtype.join(',')],
      item.keep && ['--keep', item.keep.join(',')],
      file('--config', config),
      file('--labels', labels),
      item.beit_version && ['--beit-version', item.beit_version],
      size === undefined ? undefined : ['--img-size', typeof size === 'number' ? size : size.join('x')],
      item.resize && ['--resize', item.resize],
      item.opset === undefined ? undefined : ['--opset', item.opset],
      item.external_data ? ['--external-data'] : undefined,
      item.samples === undefined ? undefined : ['--samples', item.samples],
      item.with_weights ? ['--with-weights'] : undefined,
    ],
  );
}
