// What a release of full-size models costs: time, and the peak memory of the program with all its child processes
// (ONNX Runtime runs in one of its own). Build first: npm run build
//
//   node scripts/bench-release.mjs [--base 3] [--large 0] [--dtype fp32,fp16,q8,q4] [--jobs N] [--memory 4GB] [--keep]
//
// The checkpoints are random, seeded and of the official architecture (scripts/make-checkpoint.mjs). Memory is read from
// /proc while the release runs, so on Linux only: RSS of every process of the tree, added up at each look. Pages that
// processes share count once for each of them, so the true peak is a little lower.
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const PLEDGE = 1e9;
const LOOK_EVERY_MS = 20;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: args } = parseArgs({
  options: {
    base: { type: 'string', default: '3' },
    large: { type: 'string', default: '0' },
    dtype: { type: 'string', default: 'fp32,fp16,q8,q4' },
    jobs: { type: 'string' },
    memory: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
});
const MB = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;

const cache = join(tmpdir(), 'convert-beit-bench');
mkdirSync(cache, { recursive: true });
const work = mkdtempSync(join(cache, 'release-'));
try {
  const models = [];
  for (const arch of ['base', 'large']) {
    for (let seed = 0; seed < Number(args[arch]); seed++) {
      const source = join(cache, seed === 0 ? `${arch}.safetensors` : `${arch}-${seed}.safetensors`);
      if (!existsSync(source)) make(arch, seed, source);
      models.push({ name: `${arch}-${seed}`, source, beit_version: 1 });
    }
  }
  const manifest = join(work, 'zoo.json');
  writeFileSync(
    manifest,
    JSON.stringify({ version: 1, defaults: { dtype: args.dtype.split(',') }, models }, undefined, 2),
  );
  const { seconds, answer, peaks } = await release(manifest);
  for (const { name, seconds: took, bytes, error } of answer.items) {
    console.log(`  ${name.padEnd(8)} ${took.toFixed(1).padStart(6)} s  ${error ? error.message : MB(bytes)}`);
  }
  console.log(`${models.length} models in ${args.dtype}: ${seconds.toFixed(1)} s`);
  if (peaks.together === 0) {
    console.log(
      `peak memory of the program alone ${MB(answer.peakMemoryBytes)}; its children are seen on Linux only`,
    );
  } else {
    console.log(`peak memory of the program     ${MB(peaks.program)}`);
    console.log(`peak memory of any child       ${MB(peaks.child)}`);
    console.log(
      `peak memory of all together    ${MB(peaks.together)} (pledged for base models: less than ${MB(PLEDGE)})`,
    );
  }
} finally {
  if (args.keep) console.log(`kept: ${work}`);
  else rmSync(work, { recursive: true, force: true });
}

function make(arch, seed, out) {
  const script = join(root, 'scripts', 'make-checkpoint.mjs');
  const made = spawnSync(process.execPath, [script, '--arch', arch, '--seed', String(seed), '--out', out]);
  if (made.status !== 0) throw new Error(String(made.stderr || made.error));
}

async function release(manifest) {
  const cli = join(root, 'dist', 'cli', 'main.js');
  const argv = [cli, 'release', manifest, '--out', join(work, 'dist'), '--json'];
  for (const name of ['jobs', 'memory']) if (args[name]) argv.push(`--${name}`, args[name]);
  const started = performance.now();
  // Progress goes straight to the terminal.
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const peaks = { program: 0, child: 0, together: 0 };
  const watch = setInterval(() => look(child.pid, peaks), LOOK_EVERY_MS);
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
  await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
  clearInterval(watch);
  return { seconds: (performance.now() - started) / 1000, answer: JSON.parse(stdout), peaks };
}

/** One look at the tree; a process may end while it is looked at. */
function look(pid, peaks) {
  let together = 0;
  for (const each of tree(pid)) {
    const { VmRSS: now = 0, VmHWM: highest = 0 } = status(each);
    together += now;
    const kind = each === pid ? 'program' : 'child';
    peaks[kind] = Math.max(peaks[kind], highest);
  }
  peaks.together = Math.max(peaks.together, together);
}

function tree(pid) {
  const found = [pid];
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').trim();
      for (const each of children === '' ? [] : children.split(' ')) found.push(...tree(Number(each)));
    }
  } catch {
    // gone
  }
  return found;
}

function status(pid) {
  try {
    const lines = readFileSync(`/proc/${pid}/status`, 'utf8').matchAll(/^(Vm\w+):\s+(\d+) kB$/gm);
    return Object.fromEntries([...lines].map(([, name, value]) => [name, Number(value) * 1024]));
  } catch {
    return {};
  }
}
