/**
 * What the command line needs from outside, so that tests can hand it something else.
 */
import type { EventEmitter } from 'node:events';
import type * as pipeline from '../pipeline.js';
import type { TerminalStream } from './style.js';

export const NAME = 'convert-beit';

export type Pipeline = Pick<
  typeof pipeline,
  | 'convert'
  | 'convertWeights'
  | 'writesWeights'
  | 'diff'
  | 'verify'
  | 'inspect'
  | 'listCatalog'
  | 'classify'
  | 'evaluate'
  | 'mergeEvaluations'
>;

export interface OutputStream extends TerminalStream {
  write(text: string): unknown;
}

export interface CliDeps {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: NodeJS.ProcessEnv;
  /** where signals arrive: `process` */
  readonly signals: EventEmitter;
  /** end at once, whatever is going on */
  readonly exit: (code: number) => void;
  /** loaded when a command needs it: `--help` and `--version` must not wait for it */
  readonly loadPipeline: () => Promise<Pipeline>;
}
