/**
 * ONNX's messages (onnx-proto, static code on protobufjs). Required, not imported: on import Node would scan the whole
 * generated file for export names first, which takes longer than everything else at start.
 */
import { createRequire } from 'node:module';
import type onnxProto from '#onnx-proto';

export const { onnx } = createRequire(import.meta.url)('#onnx-proto') as typeof onnxProto;
