// The main job on the embedded checkpoint: convert it, prove it, classify a picture. `npm run demo`
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cli = 'dist/cli/main.js';
const args = [
  ['--src', 'fixtures/demo/beit_demo_patch8_64.safetensors'],
  ['--out', 'demo-output/model.onnx'],
  ['--image', 'fixtures/demo/star.png'],
].flat();

if (!existsSync(join(root, cli))) {
  console.error(`${cli} is not there; the demo needs the built command line.\nBuild it: npm run build`);
  process.exit(1);
}
mkdirSync(join(root, 'demo-output'), { recursive: true });
// Forward slashes work in every shell, and the line can be repeated as it stands.
console.log(`$ node ${cli} ${args.join(' ')}\n`);
const run = spawnSync(process.execPath, [cli, ...args], { cwd: root, stdio: 'inherit' });
if (run.error) console.error(`${cli} could not be started: ${run.error.message}`);
process.exit(run.status ?? 1);
