/**
 * What a written file says of its resize, so that the source can be resized likewise.
 */
import { FormatError } from '../errors.js';
import { RESIZE_RECORD, parseResizeRecord, type ResizeRequest } from '../resizing.js';
import { openOnnxFile } from './onnx-file.js';

/**
 * Read the record of the file at `path`. It is a claim: verification finds out whether it is true.
 *
 * @returns `undefined` if there is none, if it is none, or if the file cannot be read (which the checks report)
 * @throws InputError if there is no such file
 */
export async function readResizing(path: string): Promise<Required<ResizeRequest> | undefined> {
  try {
    const file = await openOnnxFile(path);
    await file.close();
    const text = file.metadata.get(RESIZE_RECORD);
    return text === undefined ? undefined : parseResizeRecord(text);
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}
