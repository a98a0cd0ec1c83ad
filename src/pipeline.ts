/**
 * The verbs: everything the package can do, one file each.
 */
export { classify, evaluate, mergeEvaluations } from './evaluation.js';
export type * from './evaluation.js';
export type * from './results.js';
export { convert, convertWatched, type Watch } from './verbs/convert.js';
export { diff } from './verbs/diff.js';
export { inspect } from './verbs/inspect.js';
export { listCatalog } from './verbs/list.js';
export { verify } from './verbs/verify.js';
export { convertWeights, writesWeights } from './verbs/weights.js';
