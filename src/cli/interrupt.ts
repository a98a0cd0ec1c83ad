/**
 * Ctrl-C and its relatives: the first one asks the work to stop and clean up, the second one does not wait.
 */
import type { EventEmitter } from 'node:events';
import { SIGNAL_EXIT } from './exit.js';

export interface Interrupt {
  readonly signal: AbortSignal;
  /** what arrived first, if anything did */
  readonly caught: () => NodeJS.Signals | undefined;
  /** stop listening: from here on a signal does what it does to every program */
  readonly stop: () => void;
}

/**
 * @param source  `process`
 * @param exit    called with the exit code of the second signal
 * @param onFirst called once, before the work is asked to stop
 */
export function watchSignals(
  source: EventEmitter,
  exit: (code: number) => void,
  onFirst: (signal: NodeJS.Signals) => void = () => undefined,
): Interrupt {
  const controller = new AbortController();
  let first: NodeJS.Signals | undefined;
  const listener = (name: NodeJS.Signals): void => {
    if (first !== undefined) {
      exit(SIGNAL_EXIT.get(name) ?? 1);
      return;
    }
    first = name;
    onFirst(name);
    controller.abort();
  };
  for (const name of SIGNAL_EXIT.keys()) source.on(name, listener);
  return {
    signal: controller.signal,
    caught: () => first,
    stop: () => {
      for (const name of SIGNAL_EXIT.keys()) source.off(name, listener);
    },
  };
}
