/**
 * Records → the numbers of an evaluation. Everything is a count or a maximum, so the order of the records cannot matter.
 */
import { InputError, printable } from '../errors.js';
import type { Header, ImageRecord, ModelRecord, TopRecord } from './records.js';

/** How often a model is right. Fractions are of the readable pictures whose class is known; absent without any. */
export interface Accuracy {
  /** pictures whose best class is the right one */
  readonly correct1: number;
  /** pictures with the right class among the best five */
  readonly correct5: number;
  /** `correct1` as a fraction */
  readonly top1?: number;
  /** `correct5` as a fraction */
  readonly top5?: number;
  /** pictures with a score that is not a finite number; they count as wrong */
  readonly notFinite: number;
}

/** How often two models say the same. */
export interface Agreement {
  /** fraction of the readable pictures with the same best class / the same set of five best classes */
  readonly top1: number;
  readonly top5: number;
  /** largest difference of a score */
  readonly maxDifference: number;
  /** pictures of known class: who is right (best class) */
  readonly bothRight: number;
  readonly onlyModel: number;
  readonly onlyAgainst: number;
  readonly neither: number;
}

/** How often one class was recognised. */
export interface ClassTally {
  /** its number, from 0 */
  readonly class: number;
  /** in the data set */
  readonly name: string;
  readonly images: number;
  readonly correct1: number;
  readonly correct5: number;
}

/** The result of an evaluation; the same for one run, a resumed one, and merged shards. */
export interface Evaluation {
  readonly model: ModelRecord & Accuracy;
  /** the second model, if there was one */
  readonly against?: ModelRecord & Accuracy;
  readonly agreement?: Agreement;
  /** what was evaluated, and its digest */
  readonly dataset: Header['dataset'];
  /** how the data’s class names became numbers, one sentence */
  readonly classMapping: string;
  /** pictures per run of the model */
  readonly batch: number;
  /** what ran it: it may round differently from another one */
  readonly runtime: string;
  /** only of a part */
  readonly shard?: readonly [index: number, of: number];
  readonly images: {
    /** to be evaluated: all, or those of the shard */
    readonly total: number;
    readonly evaluated: number;
    readonly unreadable: number;
    /** evaluated, of known class */
    readonly labelled: number;
  };
  readonly perClass: readonly ClassTally[];
  readonly unreadable: readonly { readonly image: string; readonly error: string }[];
}

/** Pictures of a shard: those whose place leaves the remainder `index - 1`. */
export function shardSize(images: number, [index, of]: readonly [number, number]): number {
  return Math.max(0, Math.ceil((images - (index - 1)) / of));
}

class Score {
  correct1 = 0;
  correct5 = 0;
  notFinite = 0;

  /** @returns whether the best class is the right one */
  add({ top }: TopRecord, known: number | undefined): boolean {
    if (top.length === 0) this.notFinite += 1;
    const right = known !== undefined && top[0] === known;
    if (right) this.correct1 += 1;
    if (known !== undefined && top.includes(known)) this.correct5 += 1;
    return right;
  }

  accuracy(labelled: number): Accuracy {
    const { correct1, correct5, notFinite } = this;
    return {
      correct1,
      correct5,
      ...(labelled > 0 && { top1: correct1 / labelled, top5: correct5 / labelled }),
      notFinite,
    };
  }
}

export class Tally {
  readonly #header: Header;
  readonly #seen: Uint8Array;
  readonly #model = new Score();
  readonly #against = new Score();
  readonly #right = { bothRight: 0, onlyModel: 0, onlyAgainst: 0, neither: 0 };
  readonly #perClass = new Map<number, { images: number; correct1: number; correct5: number }>();
  readonly #unreadable: { i: number; image: string; error: string }[] = [];
  #evaluated = 0;
  #labelled = 0;
  #same1 = 0;
  #same5 = 0;
  #maxDifference = 0;

  constructor(header: Header) {
    this.#header = header;
    this.#seen = new Uint8Array(header.dataset.images);
  }

  /** pictures that have a record */
  get done(): number {
    return this.#evaluated + this.#unreadable.length;
  }

  has(i: number): boolean {
    return this.#seen[i] === 1;
  }

  /** First place without a record, of those for which `wanted` holds. */
  missing(wanted: (i: number) => boolean = () => true): number | undefined {
    const at = this.#seen.findIndex((seen, i) => seen === 0 && wanted(i));
    return at < 0 ? undefined : at;
  }

  /** @throws InputError if the picture has a record already */
  add(record: ImageRecord): void {
    const { i, image, error } = record;
    if (this.#seen[i] === 1) {
      throw new InputError(`picture ${i} (${printable(image)}) has two results`, {
        next: 'Two processes wrote into one file, or a part is given twice.',
      });
    }
    this.#seen[i] = 1;
    if (error !== undefined) {
      this.#unreadable.push({ i, image, error });
      return;
    }
    this.#evaluated += 1;
    const known = record.class;
    const own = record as TopRecord;
    const right = this.#model.add(own, known);
    if (known !== undefined) {
      this.#labelled += 1;
      const row = this.#perClass.get(known) ?? { images: 0, correct1: 0, correct5: 0 };
      row.images += 1;
      if (right) row.correct1 += 1;
      if (own.top.includes(known)) row.correct5 += 1;
      this.#perClass.set(known, row);
    }
    if (record.other) this.#compare(own, record.other, record, right);
  }

  #compare(
    own: TopRecord,
    other: TopRecord,
    { class: known, difference }: ImageRecord,
    right: boolean,
  ): void {
    const otherRight = this.#against.add(other, known);
    if (own.top.length > 0 && own.top[0] === other.top[0]) this.#same1 += 1;
    const set = new Set(own.top);
    if (set.size > 0 && set.size === other.top.length && other.top.every((c) => set.has(c))) this.#same5 += 1;
    this.#maxDifference = Math.max(this.#maxDifference, difference ?? 0);
    if (known === undefined) return;
    if (right && otherRight) this.#right.bothRight += 1;
    else if (right) this.#right.onlyModel += 1;
    else if (otherRight) this.#right.onlyAgainst += 1;
    else this.#right.neither += 1;
  }

  /** @param shard absent: the whole data set */
  result(shard?: readonly [number, number]): Evaluation {
    const { model, against, dataset, classes, batch, runtime } = this.#header;
    const names = new Map<number, string>();
    for (const [name, number] of classes.names) {
      names.set(number, names.has(number) ? `${names.get(number)!}, ${name}` : name);
    }
    return {
      model: { ...model, ...this.#model.accuracy(this.#labelled) },
      ...(against && {
        against: { ...against, ...this.#against.accuracy(this.#labelled) },
        agreement: {
          top1: this.#evaluated > 0 ? this.#same1 / this.#evaluated : 0,
          top5: this.#evaluated > 0 ? this.#same5 / this.#evaluated : 0,
          maxDifference: this.#maxDifference,
          ...this.#right,
        },
      }),
      dataset,
      classMapping: classes.how,
      batch,
      runtime,
      ...(shard && shard[1] > 1 && { shard }),
      images: {
        total: shardSize(dataset.images, shard ?? [1, 1]),
        evaluated: this.#evaluated,
        unreadable: this.#unreadable.length,
        labelled: this.#labelled,
      },
      perClass: [...this.#perClass]
        .sort(([a], [b]) => a - b)
        .map(([number, row]) => ({ class: number, name: names.get(number) ?? '', ...row })),
      unreadable: [...this.#unreadable]
        .sort((a, b) => a.i - b.i)
        .map(({ image, error }) => ({ image, error })),
    };
  }
}
