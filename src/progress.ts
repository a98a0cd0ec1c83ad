/** What long steps say about how far they are. Data only; the command line draws it. */
export interface ProgressEvent {
  readonly phase: 'download' | 'upload' | 'hash' | 'write' | 'oracle' | 'runtime' | 'compare' | 'evaluate';
  /** what is worked on: a file name, never a path */
  readonly label: string;
  /** where several things are done in one run: which of them, e.g. `2/30 beit-base` */
  readonly job?: string;
  readonly done: number;
  /** `undefined` when it cannot be known */
  readonly total?: number;
  readonly unit: 'bytes' | 'blocks' | 'steps' | 'images';
}

export type OnProgress = (event: ProgressEvent) => void;
