/**
 * What may be asked of a resize and what is remembered of one: the source at another image or patch size.
 */

/**
 * Whose arithmetic: `unilm` (and mmpretrain's load hook), `timm` and its simpler variant, transformers' forward pass,
 * and BEiT v2's own forward pass (absolute positions only).
 */
export const RESIZE_METHODS = ['unilm', 'timm', 'timm-simple', 'transformers', 'beit2'] as const;
export type ResizeMethod = (typeof RESIZE_METHODS)[number];
export const DEFAULT_RESIZE_METHOD: ResizeMethod = 'unilm';

/** Largest side of an image or patch that can be asked for, in pixels. */
export const MOST_PIXELS = 8192;

/** What is not given stays as it is in the source. */
export interface ResizeRequest {
  /** `[height, width]` in pixels */
  readonly imageSize?: readonly [number, number];
  /** side of a patch in pixels */
  readonly patchSize?: number;
  readonly method?: ResizeMethod;
}

/** Remembered of a model that was resized. */
export interface Resized {
  readonly method: ResizeMethod;
  readonly from: {
    readonly imageSize: readonly [number, number];
    readonly patchSize: number;
    /** in patches */
    readonly window: readonly [number, number];
  };
}

/** How a written file remembers its resize (`metadata_props`): {@link ResizeRequest} and where it started from. */
export const RESIZE_RECORD = 'convert_beit.resize';

/** @returns the JSON of {@link RESIZE_RECORD} */
export function resizeRecord(
  { method, from }: Resized,
  to: { readonly imageSize: readonly [number, number]; readonly patchSize: number },
): string {
  const { imageSize, patchSize } = to;
  return JSON.stringify({ method, imageSize, patchSize, from });
}

/**
 * What a file says that was asked for when it was made.
 *
 * @param text the value of {@link RESIZE_RECORD}; anybody may have written it
 * @returns `undefined` if it is no such record
 */
export function parseResizeRecord(text: string): Required<ResizeRequest> | undefined {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof found !== 'object' || found === null) return undefined;
  const { method, imageSize, patchSize } = found as Record<string, unknown>;
  const known = RESIZE_METHODS.find((name) => name === method);
  if (!known || !isSide(patchSize)) return undefined;
  if (!Array.isArray(imageSize) || imageSize.length !== 2 || !imageSize.every(isSide)) return undefined;
  return { method: known, imageSize: [imageSize[0], imageSize[1]], patchSize };
}

function isSide(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MOST_PIXELS;
}
