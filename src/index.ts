/**
 * Public API of `convert-beit`. Named exports only; `tests/public-api.test.ts` pins the list.
 */
export { complexity, inventory, relativePositionIndex, type BeitConfig, type Complexity } from './beit.js';
export {
  ConvertBeitError,
  EnvironmentError,
  FormatError,
  InputError,
  InterruptedError,
  LayoutError,
  NetworkError,
  ParityError,
  ShapeError,
  UsageError,
} from './errors.js';
export {
  decodeImage,
  preprocess,
  resizeImage,
  type Interpolation,
  type Preprocessing,
  type RgbImage,
} from './image.js';
export {
  classify,
  convert,
  convertWeights,
  diff,
  evaluate,
  inspect,
  listCatalog,
  mergeEvaluations,
  verify,
  type Accuracy,
  type Agreement,
  type CatalogEntry,
  type CheckOptions,
  type Classification,
  type ClassifyOptions,
  type ClassifyResult,
  type ClassTally,
  type CommonOptions,
  type ConvertOptions,
  type ConvertResult,
  type DiffOptions,
  type DiffResult,
  type EvaluateOptions,
  type EvaluateResult,
  type Evaluation,
  type FileSummary,
  type InspectOptions,
  type Inspection,
  type LabelsSummary,
  type ModelOptions,
  type OutputSummary,
  type PortSummary,
  type SourceOptions,
  type SourceSummary,
  type VerifyOptions,
  type VerifyResult,
  type WeightsOptions,
  type WeightsOutput,
  type WeightsResult,
  type WrittenFile,
} from './pipeline.js';
export type { PrecisionName } from './precision.js';
export { routePreprocessing, type Route, type RouteModel } from './preprocessing-routes.js';
export type { OnProgress, ProgressEvent } from './progress.js';
export type {
  Check,
  InputParity,
  LayersReport,
  LogitsParity,
  ParityReport,
  Prediction,
} from './verify/report.js';
export { VERSION } from './version.js';
