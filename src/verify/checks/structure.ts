/**
 * The file as a graph: is it a portable classifier of this config, with the constants that upstream has?
 */
import type { BeitConfig } from '../../beit.js';
import { dynamicInput, dynamicOutputs, type DynamicMethod } from '../../dynamic-size.js';
import { listNames, printable } from '../../errors.js';
import { precision as precisionRow, type PrecisionRow } from '../../precision.js';
import { MASK_INPUT, taskOutputs, taskParts, type Task } from '../../task.js';
import type { OnnxFile, OnnxNode, OnnxPort } from '../onnx-file.js';
import type { Check } from '../report.js';
import { BLOCK } from '../stored-weight.js';

/** ONNX `docs/Versioning.md`: the first opset of each IR version, for the IR versions that exist. */
const LEAST_IR_BY_OPSET: readonly (readonly [opset: number, ir: number])[] = [
  [23, 11],
  [21, 10],
  [19, 9],
  [15, 8],
  [13, 7],
  [1, 3],
];

const FLOAT = 1;
const BOOL = 9;

/** Operators that compute differently each time, or run graphs inside the graph. */
const UNWANTED: ReadonlySet<string> = new Set(
  'If Loop Scan SequenceMap RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial Dropout'.split(
    ' ',
  ),
);

export interface StructureResult {
  readonly check: Check;
  /** the runtime can be asked: input and output are as they should be */
  readonly usable: boolean;
}

export function checkStructure(
  file: OnnxFile,
  config: BeitConfig,
  precision = precisionRow('fp32'),
  task: Task = { name: 'classify' },
  dynamic?: DynamicMethod,
): StructureResult {
  const ports = portFindings(file, config, task, dynamic);
  const parts = taskParts(config, task);
  const findings = [
    ...versionFindings(file, precision),
    ...precisionFindings(file, precision),
    ...file.foreign.map((what) => `the file has ${what}; a converted model has none`),
    ...ports,
    ...flowFindings(file),
    ...countFindings(file, 'LayerNormalization', parts.layerNorms),
    ...epsilonFindings(file, config),
    ...approximationFindings(file),
    ...geluFindings(file, parts.gelus),
    ...countFindings(file, 'Softmax', parts.blocks),
  ];
  const opset = file.opsets.get('');
  const detail = `${file.nodes.length} nodes of opset ${opset}, ${parts.layerNorms} LayerNormalization with epsilon ${config.layerNormEps}, ${parts.gelus} exact GELU`;
  return {
    usable: ports.length === 0,
    check: {
      name: 'structure',
      passed: findings.length === 0,
      detail: findings.length === 0 ? detail : findings[0],
      findings,
    },
  };
}

/** Which operators of other domains a precision cannot do without. */
function foreignOperators({ weights }: PrecisionRow): ReadonlySet<string> {
  return new Set(weights === 'int4' ? ['com.microsoft.MatMulNBits'] : []);
}

/** Integer weights go into the one operator that reads them as they are stored. */
function precisionFindings(file: OnnxFile, { name, weights }: PrecisionRow): string[] {
  const findings: string[] = [];
  const stated = file.metadata.get('convert_beit.dtype');
  if (stated !== undefined && stated !== name)
    findings.push(`the file calls its precision "${printable(stated)}"`);
  if (weights !== 'int8' && weights !== 'uint8' && weights !== 'int4') return findings;
  const [operator, ending] = weights === 'int4' ? ['MatMulNBits', '_q4'] : ['MatMulInteger', '_quantized'];
  for (const node of file.nodes) {
    for (const [i, input] of node.inputs.entries()) {
      if (!input.endsWith(ending) || !file.initializers.has(input)) continue;
      if (node.type !== operator || i !== 1) {
        findings.push(
          `node ${nameOf(node)} (${printable(node.type)}) uses ${printable(input)}; only ${operator} can`,
        );
      } else if (weights === 'int4') findings.push(...blockFindings(file, node));
    }
  }
  return findings;
}

/** MatMulNBits reads its weights as its attributes say: they must say what the tensor is. */
function blockFindings({ initializers }: OnnxFile, node: OnnxNode): string[] {
  const of = (key: string): number | undefined => {
    const attribute = node.attributes.get(key);
    return attribute?.kind === 'int' ? attribute.value : undefined;
  };
  const { dims } = initializers.get(node.inputs[1])!;
  const [bits, size, N, K] = [of('bits') ?? 4, of('block_size'), of('N'), of('K')];
  const fits = bits === 4 && size === BLOCK && N === dims[0] && Math.ceil((K ?? 0) / BLOCK) === dims[1];
  if (fits && node.inputs.length === 3) return [];
  return [
    `node ${nameOf(node)} reads ${bits}-bit blocks of ${size} as [${N}, ${K}] from ${node.inputs.length - 1} tensors; the weights are [${dims.join(', ')}] 4-bit blocks of ${BLOCK} and their steps`,
  ];
}

function versionFindings({ irVersion, opsets, nodes }: OnnxFile, precision: PrecisionRow): string[] {
  const needed = foreignOperators(precision);
  const findings: string[] = [];
  const opset = opsets.get('');
  if (opset === undefined) findings.push('the file imports no version of the standard operators');
  else if (opset < 17) findings.push(`opset ${opset} has no LayerNormalization; 17 is the first that has`);
  else {
    const [, least] = LEAST_IR_BY_OPSET.find(([from]) => opset >= from)!;
    if (irVersion < least)
      findings.push(`IR version ${irVersion} is older than opset ${opset}, which came with ${least}`);
  }
  const domains = new Set([...needed].map((name) => name.slice(0, name.lastIndexOf('.'))));
  const others = [...opsets.keys()].filter((domain) => domain !== '' && !domains.has(domain));
  if (others.length > 0)
    findings.push(`the file imports operators of ${listNames(others)}; only standard ones are portable`);
  const foreign = new Set(
    nodes
      .filter(({ domain }) => domain !== '' && domain !== 'ai.onnx')
      .map(({ type, domain }) => `${domain}.${type}`)
      .filter((name) => !needed.has(name)),
  );
  if (foreign.size > 0)
    findings.push(`nodes of other domains: ${listNames(foreign)}; only standard ones are portable`);
  const unwanted = new Set(nodes.map(({ type }) => type).filter((type) => UNWANTED.has(type)));
  if (unwanted.size > 0) findings.push(`operators that a classifier has no use for: ${listNames(unwanted)}`);
  const odd = nodes.filter(({ attributes }) => [...attributes.values()].some(({ kind }) => kind === 'other'));
  if (odd.length > 0)
    findings.push(`nodes with subgraphs or other unusual attributes: ${listNames(odd.map(nameOf))}`);
  return findings;
}

function portFindings(
  { inputs, outputs }: OnnxFile,
  config: BeitConfig,
  task: Task,
  dynamic: DynamicMethod | undefined,
): string[] {
  const patches = config.window[0] * config.window[1];
  const findings = [
    ...portsFindings('input', inputs, [
      dynamic
        ? { ...dynamicInput(config), dataType: FLOAT }
        : { name: 'pixel_values', dataType: FLOAT, shape: [config.channels, ...config.imageSize] },
      ...(task.name === 'masked-image' ? [{ name: MASK_INPUT, dataType: BOOL, shape: [patches] }] : []),
    ]),
    ...portsFindings(
      'output',
      outputs,
      (dynamic ? dynamicOutputs : taskOutputs)(config, task).map((port) => ({ ...port, dataType: FLOAT })),
    ),
  ];
  const [batch, other] = new Set([...inputs, ...outputs].map(({ shape }) => shape?.[0]));
  if (findings.length === 0 && other !== undefined) {
    findings.push(
      `the batch is called "${printable(String(batch))}" in the input, "${printable(String(other))}" in the output`,
    );
  }
  return findings;
}

interface WantedPort {
  readonly name: string;
  readonly dataType: number;
  /** without the batch; a string is a symbolic dimension */
  readonly shape: readonly (number | string)[];
}

/** The batch is symbolic, or one number everywhere. */
function portsFindings(
  role: 'input' | 'output',
  ports: readonly OnnxPort[],
  wanted: readonly WantedPort[],
): string[] {
  const [first] = wanted;
  const needed =
    wanted.length === 1
      ? `needed is one ${role} ${first.name} float32 [batch, ${first.shape.join(', ')}]`
      : `needed are the ${role}s ${wanted.map(({ name, shape }) => `${name} [batch, ${shape.join(', ')}]`).join(' and ')}`;
  if (String(ports.map(({ name }) => name)) !== String(wanted.map(({ name }) => name))) {
    return [`the graph has the ${role}s ${listNames(ports.map((port) => port.name)) || '(none)'}; ${needed}`];
  }
  return ports.flatMap(({ name, dataType, shape }, i) => {
    if (dataType !== wanted[i].dataType)
      return [`${role} ${name} has data type ${dataType ?? 'none'}; ${needed}`];
    const [batch, ...own] = shape ?? [];
    const symbolic = typeof batch === 'string' && batch !== '';
    const fixed = typeof batch === 'number' && batch >= 1;
    if (shape && (symbolic || fixed) && String(own) === String(wanted[i].shape)) return [];
    const found = shape ? `[${shape.map((side) => printable(String(side ?? '?'))).join(', ')}]` : 'no shape';
    return [`${role} ${name} has ${shape ? 'the shape ' : ''}${found}; ${needed}`];
  });
}

/** Every value is made once, and before it is used. */
export function flowFindings({ inputs, outputs, initializers, nodes }: OnnxFile): string[] {
  const findings: string[] = [];
  const known = new Set<string>([...inputs.map(({ name }) => name), ...initializers.keys()]);
  for (const { name } of inputs) {
    if (initializers.has(name)) findings.push(`${printable(name)} is an input and an initializer`);
  }
  for (const node of nodes) {
    const missing = node.inputs.filter((name) => name !== '' && !known.has(name));
    if (missing.length > 0)
      findings.push(`node ${nameOf(node)} uses ${listNames(missing)}, which nothing before it makes`);
    for (const name of node.outputs) {
      if (name === '') continue;
      if (known.has(name)) findings.push(`${printable(name)} is made twice, again by node ${nameOf(node)}`);
      known.add(name);
    }
  }
  const unmade = outputs.map(({ name }) => name).filter((name) => !known.has(name));
  if (unmade.length > 0) findings.push(`nothing makes the output ${listNames(unmade)}`);
  return findings;
}

/** Norms whose epsilon is not the config's, whoever wrote the file. */
export function epsilonFindings(file: Pick<OnnxFile, 'nodes'>, config: BeitConfig): string[] {
  const findings: string[] = [];
  const wanted = Math.fround(config.layerNormEps);
  const byEpsilon = new Map<number, string[]>();
  for (const node of file.nodes) {
    if (node.type !== 'LayerNormalization') continue;
    const attribute = node.attributes.get('epsilon');
    // 1e-5 is the operator's default.
    const epsilon = attribute?.kind === 'float' ? attribute.value : Math.fround(1e-5);
    if (epsilon === wanted) continue;
    byEpsilon.set(epsilon, [...(byEpsilon.get(epsilon) ?? []), nameOf(node)]);
  }
  for (const [epsilon, names] of byEpsilon) {
    findings.push(
      `LayerNormalization has epsilon ${Number(epsilon.toPrecision(6))} instead of ${config.layerNormEps} in ${listNames(names, 3)}`,
    );
  }
  return findings;
}

function approximateGelus({ nodes }: Pick<OnnxFile, 'nodes'>): OnnxNode[] {
  return nodes.filter((node) => {
    const attribute = node.attributes.get('approximate');
    return node.type === 'Gelu' && attribute?.kind === 'string' && attribute.value !== 'none';
  });
}

/** BEiT's activation is x/2 (1 + erf(x/sqrt 2)); the tanh form is another function. */
export function approximationFindings(file: Pick<OnnxFile, 'nodes'>): string[] {
  const findings: string[] = [];
  const approximate = approximateGelus(file);
  const tanh = file.nodes.filter(({ type }) => type === 'Tanh');
  if (approximate.length > 0) {
    findings.push(
      `Gelu is approximated in ${listNames(approximate.map(nameOf), 3)}; BEiT's is the exact erf form`,
    );
  }
  if (tanh.length > 0) {
    findings.push(`Tanh in ${listNames(tanh.map(nameOf), 3)}: a tanh GELU; BEiT's is the exact erf form`);
  }
  return findings;
}

function geluFindings(file: OnnxFile, wanted: number): string[] {
  const exact =
    file.nodes.filter(({ type }) => type === 'Erf' || type === 'Gelu').length - approximateGelus(file).length;
  return exact === wanted ? [] : [`${exact} exact GELUs (Erf or Gelu nodes); ${wanted} are needed`];
}

function countFindings({ nodes }: OnnxFile, type: string, wanted: number): string[] {
  const found = nodes.filter((node) => node.type === type).length;
  return found === wanted ? [] : [`${found} ${type} nodes; this config needs ${wanted}`];
}

function nameOf({ name, outputs, type }: OnnxNode): string {
  return name || outputs[0] || type;
}
