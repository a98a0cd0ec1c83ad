/**
 * An ONNX graph as one reads it: who makes a value, which values depend on the image, and what a value is before it was
 * only reshaped.
 */
import type { OnnxFile, OnnxNode } from '../onnx-file.js';

/** Operators that move or cut values without computing new ones. */
const MOVES: ReadonlySet<string> = new Set(
  'Reshape Identity Cast Dropout Squeeze Unsqueeze Flatten Expand Slice Gather'.split(' '),
);
/** Their output tells about sizes, not about pixels. */
const SIZES: ReadonlySet<string> = new Set(['Shape', 'Size']);

export class Flow {
  readonly nodes: readonly OnnxNode[];
  readonly #producers = new Map<string, number>();
  readonly #dynamic = new Set<string>();

  constructor({ nodes, inputs, initializers }: Pick<OnnxFile, 'nodes' | 'inputs' | 'initializers'>) {
    this.nodes = nodes;
    for (const { name } of inputs) if (!initializers.has(name)) this.#dynamic.add(name);
    nodes.forEach((node, index) => {
      const moves = !SIZES.has(node.type) && node.inputs.some((name) => this.#dynamic.has(name));
      for (const name of node.outputs) {
        if (name === '') continue;
        this.#producers.set(name, index);
        if (moves) this.#dynamic.add(name);
      }
    });
  }

  /** Depends on the image, not only on weights and sizes. */
  isDynamic(value: string): boolean {
    return this.#dynamic.has(value);
  }

  producer(value: string): OnnxNode | undefined {
    const index = this.#producers.get(value);
    return index === undefined ? undefined : this.nodes[index];
  }

  /** Where in the graph a value is made; -1 for inputs and weights. */
  indexOf(value: string): number {
    return this.#producers.get(value) ?? -1;
  }

  /** The value before it was reshaped, cut, cast or (where named) reduced. */
  root(value: string, also: readonly string[] = []): string {
    let at = value;
    // Every step goes to an earlier node: the number of nodes bounds them.
    for (let steps = 0; steps <= this.nodes.length; steps++) {
      const node = this.producer(at);
      if (!node || !(MOVES.has(node.type) || also.includes(node.type)) || !this.isDynamic(node.inputs[0])) {
        return at;
      }
      at = node.inputs[0];
    }
    return at;
  }

  /** The operands of the node that makes `value`, if it is of this type: those that depend on the image first. */
  operands(value: string, type: string): { dynamic: string[]; constant: string[] } | undefined {
    const node = this.producer(value);
    if (node?.type !== type) return undefined;
    const given = node.inputs.filter((name) => name !== '');
    return {
      dynamic: given.filter((name) => this.isDynamic(name)),
      constant: given.filter((name) => !this.isDynamic(name)),
    };
  }
}
