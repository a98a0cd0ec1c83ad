// Builds the CLI and the library: TypeScript to dist/, and onnx-proto's generated messages to vendor/.
//
// onnx-proto is copied instead of depended on: its package.json asks for protobufjs 6, and what we publish must
// not bring that version into anybody's tree. The copy loads the protobufjs that we depend on ourselves.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);

const onnxProto = dirname(dirname(require.resolve('onnx-proto')));
const vendor = join(root, 'vendor', 'onnx-proto');
mkdirSync(vendor, { recursive: true });
copyFileSync(join(onnxProto, 'dist', 'onnx.js'), join(vendor, 'onnx.cjs'));
copyFileSync(join(onnxProto, 'dist', 'onnx.d.ts'), join(vendor, 'onnx.d.cts'));
const { version, license, repository } = JSON.parse(readFileSync(join(onnxProto, 'package.json'), 'utf8'));
writeFileSync(
  join(vendor, 'NOTICE'),
  `onnx-proto ${version} (${license}), ${repository.url}\nGenerated messages of ONNX 1.10, unchanged.\n`,
);

const sources = new Set(
  readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -3)),
);
const dist = join(root, 'dist');
mkdirSync(dist, { recursive: true });
// A module whose source is gone must not survive in what is packed.
for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
  const stem = file.replace(/(\.d\.ts|\.js)$/, '');
  if (stem !== file && !sources.has(stem)) rmSync(join(dist, file));
}
const tsc = spawnSync(
  process.execPath,
  [require.resolve('typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json')],
  { stdio: 'inherit' },
);
if (tsc.status !== 0) process.exit(tsc.status ?? 1);
chmodSync(join(dist, 'cli', 'main.js'), 0o755);
