/** What long steps say about how far they are. Data only; the command line draws it. */
export interface ProgressEvent {
  readonly phase: 'download' | 'upload' | 'hash' | 'write' | 'oracle' | 'runtime' | 'compare' | 'evaluate';
  /** what is worked on: a file name, never a path */
  readonly label: string;
  readonly done: number;
  /** `undefined` when it cannot be known */
  readonly total?: number;
  readonly unit: 'bytes' | 'blocks' | 'steps' | 'images';
}

export type OnProgress = (event: ProgressEvent) => void;
