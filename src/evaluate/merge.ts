/** Results of several machines as one. */
import { InputError, printable } from '../errors.js';
import { differingField, readResults, type Header } from './records.js';
import { Tally, shardSize, type Evaluation } from './tally.js';

/**
 * @returns what one run over the whole data set gives
 * @throws InputError if a file is no results file, two are about different things or about the same pictures, or pictures
 *   are missing
 */
export async function mergeResults(paths: readonly string[]): Promise<Evaluation> {
  let first: { name: string; header: Header } | undefined;
  let tally: Tally | undefined;
  const shards: { name: string; shard: readonly [number, number]; done: number }[] = [];
  for (const path of paths) {
    let done = 0;
    const found = await readResults(
      path,
      (header, name) => {
        first ??= { name, header };
        const field = differingField(first.header, header);
        if (field !== undefined) {
          throw new InputError(`${first.name} and ${name} do not belong together: the ${field} differs`);
        }
        tally ??= new Tally(header);
      },
      (record) => {
        done += 1;
        tally!.add(record);
      },
    );
    if (!found) {
      throw new InputError(`${printable(path, 300)} holds no results yet`, {
        next: 'Run its part again with --resume.',
      });
    }
    shards.push({ name: found.name, shard: found.header.shard, done });
  }
  if (!tally || !first) throw new InputError('there are no results files to merge');
  const { images } = first.header.dataset;
  if (tally.done < images) {
    const unfinished = shards
      .filter(({ shard, done }) => done < shardSize(images, shard))
      .map(
        ({ name, shard, done }) =>
          `${name} (shard ${shard.join('/')}) has ${done} of ${shardSize(images, shard)}`,
      );
    throw new InputError(
      `${images - tally.done} of ${images} pictures have no result: ${unfinished.length > 0 ? unfinished.join(', ') : 'a part is not among the files'}`,
      { next: 'Finish the parts with --resume, then merge all of them.' },
    );
  }
  return tally.result();
}
