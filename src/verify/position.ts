/**
 * Which row of a relative position bias table belongs to a pair of tokens; the oracle's own rule.
 *
 * For patches a (query) and b (key) at rows y and columns x of a window `[Wh, Ww]`: the table is a grid of
 * `2Wh-1` by `2Ww-1` displacements, row-major, the displacement being query minus key. After the grid come three rows:
 * class token to patch, patch to class token, class token to itself.
 */
export function positionRow(query: number, key: number, window: readonly [number, number]): number {
  const [height, width] = window;
  const displacements = (2 * height - 1) * (2 * width - 1);
  if (query === 0 && key === 0) return displacements + 2;
  if (query === 0) return displacements;
  if (key === 0) return displacements + 1;
  const [queryRow, keyRow] = [query, key].map((token) => Math.floor((token - 1) / width));
  const queryColumn = query - 1 - queryRow * width;
  const keyColumn = key - 1 - keyRow * width;
  return (queryRow - keyRow + height - 1) * (2 * width - 1) + (queryColumn - keyColumn + width - 1);
}
