/** How a graph gets at the model's tensors. */
import type { Value } from './graph.js';

/** Looks a canonical weight up and makes it an initializer of the graph. */
export type Weight = (name: string) => Value;
