// Conversion speed and memory against copying the same file, in one run: `npm run bench`.
//
//   npm run bench                      base and large at 224, 5 interleaved rounds
//   npm run bench -- --arch base --rounds 9
//   npm run bench -- --python PATH     also time torch.onnx.export of the same architecture with that Python
//   npm run bench -- graph             what the written graphs cost to run (scripts/bench-graph.mjs)
//   npm run bench -- evaluate          pictures per second against the runtime alone (scripts/bench-evaluate.mjs)
//   npm run bench -- oracle            speed and memory of the float64 reference (scripts/bench-oracle.mjs)
//   npm run bench -- release           time and memory of a release of base-size models (scripts/bench-release.mjs)
//
// Every round runs all commands once, so that a drift of the machine's speed touches all of them; ratios are taken
// round by round and their median is printed. Times are of whole processes, start-up included.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

if (['graph', 'evaluate', 'oracle', 'release'].includes(process.argv[2])) {
  const [name] = process.argv.splice(2, 1);
  await import(`./bench-${name}.mjs`);
  process.exit();
}

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: args } = parseArgs({
  options: {
    arch: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    python: { type: 'string' },
    verify: { type: 'boolean', default: false },
  },
});
const rounds = Number(args.rounds);
const cache = join(tmpdir(), 'convert-beit-bench');
mkdirSync(cache, { recursive: true });
const work = mkdtempSync(join(cache, 'run-'));
const cli = join(root, 'dist', 'cli', 'main.js');

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const seconds = (value) => `${value.toFixed(2)} s`;

function run(command, argv) {
  const start = process.hrtime.bigint();
  const result = spawnSync(command, argv, { encoding: 'utf8', maxBuffer: 1 << 28 });
  const time = Number(process.hrtime.bigint() - start) / 1e9;
  if (result.status !== 0) throw new Error(`${command} ${argv.join(' ')}\n${result.stderr || result.error}`);
  return { time, stdout: result.stdout };
}

const copyScript =
  "const fs=require('fs');const [,src,dst]=process.argv;fs.copyFileSync(src,dst);const f=fs.openSync(dst,'r+');fs.fdatasyncSync(f)";

const hashScript =
  "const fs=require('fs');const h=require('crypto').createHash('sha256');const b=Buffer.alloc(1<<20);const f=fs.openSync(process.argv[1]);for(let n;(n=fs.readSync(f,b));)h.update(b.subarray(0,n));h.digest('hex')";

try {
  for (const arch of args.arch ? [args.arch] : ['base', 'large']) {
    const source = join(cache, `${arch}.safetensors`);
    if (!existsSync(source))
      run(process.execPath, [join(root, 'scripts', 'make-checkpoint.mjs'), '--arch', arch, '--out', source]);
    const out = join(work, 'model.onnx');
    const copy = join(work, 'copy.bin');
    const convert = (...extra) =>
      run(process.execPath, [cli, '--src', source, '--out', out, '--quiet', ...extra]);
    const commands = {
      cp: () => run('cp', [source, copy]),
      'cp, flushed to disk': () => run(process.execPath, ['-e', copyScript, source, copy]),
      // What the digest of the source alone costs: a conversion states it, a copy does not.
      sha256: () => run(process.execPath, ['-e', hashScript, source]),
      'node, doing nothing': () => run(process.execPath, ['-e', '0']),
      'convert --no-verify': () => convert('--no-verify'),
      'convert --no-verify --json': () => convert('--no-verify', '--json'),
      'convert --no-verify --external-data': () => convert('--no-verify', '--external-data'),
    };
    const times = new Map(Object.keys(commands).map((name) => [name, []]));
    for (let round = -1; round < rounds; round++) {
      for (const [name, command] of Object.entries(commands)) {
        for (const file of [out, `${out}_data`, copy]) rmSync(file, { force: true });
        const { time } = command();
        if (round >= 0) times.get(name).push(time);
      }
    }
    rmSync(out, { force: true });
    const report = JSON.parse(convert('--no-verify', '--json').stdout);
    console.log(`\n${arch}: ${(statSync(source).size / 1e6).toFixed(1)} MB, ${rounds} rounds, medians`);
    console.log(
      `  ${'command'.padEnd(38)} ${'time'.padStart(8)} ${'÷ cp'.padStart(7)} ${'÷ cp flushed'.padStart(13)}`,
    );
    for (const [name, list] of times) {
      const ratio = (base) => median(list.map((time, i) => time / times.get(base)[i])).toFixed(2);
      console.log(
        `  ${name.padEnd(38)} ${seconds(median(list)).padStart(8)} ${ratio('cp').padStart(7)} ${ratio('cp, flushed to disk').padStart(13)}`,
      );
    }
    console.log(`  peak memory of convert --no-verify: ${(report.peakMemoryBytes / 2 ** 20).toFixed(0)} MiB`);
    if (args.verify) {
      const verified = JSON.parse(convert('--json').stdout);
      console.log(
        `  with verification: ${seconds(verified.seconds.total)} (verify ${seconds(verified.seconds.verify)}), max abs ${verified.parity.logits.maxAbs.toExponential(1)}`,
      );
    }
    if (args.python) {
      const { stdout } = run(args.python, [
        join(root, 'scripts', 'crosscheck', 'peer_export.py'),
        '--arch',
        arch,
        '--out',
        join(work, 'peer.onnx'),
      ]);
      const peer = JSON.parse(stdout.trim().split('\n').at(-1));
      const ours = median(times.get('convert --no-verify'));
      console.log(
        `  torch.onnx.export (${peer.versions}): ${seconds(peer.seconds)} and ${peer.peakMiB.toFixed(0)} MiB, ${(peer.seconds / ours).toFixed(1)} × our time`,
      );
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
