/** One thread of the oracle: does tasks of each phase that it is told of, then says so. */
import { parentPort, workerData } from 'node:worker_threads';
import { openMemory, type OracleBuffers, type Phase } from './oracle-memory.js';
import { runTasks } from './oracle-tasks.js';

const memory = openMemory(workerData as OracleBuffers);

parentPort!.on('message', (phase: Phase) => {
  runTasks(memory, phase);
  parentPort!.postMessage('done');
});
