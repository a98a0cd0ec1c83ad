import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeProgram } from '../../src/cli/completion.js';
import { createProgram } from '../../src/cli/program.js';
import { runCompiled } from './harness.js';

const folder = mkdtempSync(join(tmpdir(), 'convert-beit-completion-'));
const script = join(folder, 'completion.bash');
let sources: string[] = [];

beforeAll(async () => {
  const { stdout, code } = await runCompiled(['completion', 'bash']);
  expect(code).toBe(0);
  writeFileSync(script, stdout);
  const listed = await runCompiled(['list', '--json']);
  sources = (JSON.parse(listed.stdout) as { models: { src: string }[] }).models.map((model) => model.src);
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** What bash would insert for a line with the cursor at its end. */
function complete(line: string, wordBreaks = ' \t\n"\'><=;|&(:'): string[] {
  const driver = `
    source "$SCRIPT"
    COMP_WORDBREAKS=$BREAKS COMP_LINE=$LINE COMP_POINT=\${#LINE}
    # As complete does it: the function that was registered for the command.
    function=$(complete -p convert-beit | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
    "$function"
    for word in "\${COMPREPLY[@]}"; do printf '%s\\n' "$word"; done`;
  const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', driver], {
    encoding: 'utf8',
    cwd: folder,
    env: { PATH: process.env['PATH'], SCRIPT: script, LINE: line, BREAKS: wordBreaks },
  });
  expect(stderr).toBe('');
  return stdout.split('\n').filter((word) => word !== '');
}

const COMMANDS = [
  'convert',
  'verify',
  'inspect',
  'diff',
  'release',
  'list',
  'classify',
  'evaluate',
  'completion',
  'help',
];
const v2Large = () =>
  sources.flatMap((source) =>
    source.startsWith('official:beitv2_large') ? [source.slice('official:'.length)] : [],
  );

describe.skipIf(process.platform === 'win32')('bash completes', () => {
  it.each<[string, string, () => string[]]>([
    ['commands', 'convert-beit ', () => COMMANDS],
    ['a command', 'convert-beit ins', () => ['inspect']],
    ['an option of the default command', 'convert-beit --sr', () => ['--src']],
    ['the program’s own option beside it', 'convert-beit --vers', () => ['--version']],
    [
      'an option later on',
      'convert-beit --src official --no-',
      () => ['--no-final-norm', '--no-reduce-range', '--no-clobber', '--no-verify'],
    ],
    ['an option of a command', 'convert-beit list --', () => ['--json', '--verbose', '--help']],
    ['sources', 'convert-beit --src ', () => ['official', ...sources, 'hf:']],
    ['names after the colon, which bash has already', 'convert-beit --src official:beitv2_l', v2Large],
    ['--src=', 'convert-beit --src=official:beitv2_l', v2Large],
    ['the source of inspect', 'convert-beit inspect official:beitv2_l', v2Large],
    ['the source of verify', 'convert-beit verify model.onnx --src official:beitv2_l', v2Large],
    ['the sources of diff', 'convert-beit diff official:beitv2_l', v2Large],
    ['layouts', 'convert-beit --to ', () => ['official', 'timm', 'transformers', 'mmpretrain']],
    ['choices', 'convert-beit --shared-bias ', () => ['keep', 'layers']],
    ['choices of a command', 'convert-beit convert --beit-version ', () => ['1', '2']],
    ['shells', 'convert-beit completion ', () => ['bash', 'zsh', 'fish']],
    ['commands after help', 'convert-beit help ver', () => ['verify']],
    [
      'sets of class names beside files',
      'convert-beit --labels ',
      () => ['imagenet-1k', 'imagenet-22k', 'ade20k', 'none', 'completion.bash'],
    ],
    [
      'a set of class names',
      'convert-beit classify model.onnx --labels ima',
      () => ['imagenet-1k', 'imagenet-22k'],
    ],
    ['a file of class names', 'convert-beit --labels=com', () => ['completion.bash']],
    ['nothing of ours where a file is due', 'convert-beit --out ', () => []],
    ['nothing of ours where a number is due', 'convert-beit --seed ', () => []],
    ['nothing of ours for a local path', 'convert-beit --src ./', () => []],
  ])('%s', (_, line, expected) => {
    expect(complete(line)).toEqual(expected());
  });

  it('keeps the prefix where a colon does not split words', () => {
    expect(complete('convert-beit --src official:beitv2_l', ' \t\n')).toEqual(
      v2Large().map((name) => `official:${name}`),
    );
  });
});

describe('every shell’s script', () => {
  const model = describeProgram(createProgram({} as never), ['official:some_model']);
  it.each(['bash', 'zsh', 'fish'])('%s knows every command, option and catalog name', async (shell) => {
    const { stdout, stderr, code } = await runCompiled(['completion', shell]);
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    for (const command of model.commands) {
      expect(stdout).toContain(command.name);
      for (const option of command.options) {
        const long = option.names.at(-1)!;
        expect(stdout).toContain(shell === 'fish' ? `-l ${long.slice(2)}` : long);
      }
    }
    for (const source of sources) expect(stdout).toContain(source);
  });

  it.each([
    ['zsh', ': _convert-beit_word_or_file imagenet-1k imagenet-22k ade20k none'],
    ['fish', "-l labels -r -F -a 'imagenet-1k imagenet-22k ade20k none'"],
  ])('%s offers sets of class names beside files', async (shell, expected) => {
    expect((await runCompiled(['completion', shell])).stdout).toContain(expected);
  });

  it('is made from the commands: values are known by their kind', () => {
    const convert = model.commands[0];
    expect(convert.name).toBe('convert');
    const kinds = new Map(convert.options.map((option) => [option.names.at(-1), option.value?.kind]));
    expect(Object.fromEntries(kinds)).toMatchObject({
      '--src': 'source',
      '--out': 'file',
      '--image': 'file',
      '--opset': 'none',
    });
    expect(kinds.get('--json')).toBeUndefined();
    expect(model.sources).toEqual(['official', 'official:some_model', 'hf:']);
  });
});
