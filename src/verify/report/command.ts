/** The command line that makes a report again. */

/** What a POSIX shell takes as one word. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

export type CommandPart = readonly [flag: string, value?: string | number | readonly string[]];

/** `['--seed', 0]`; a flag with nothing behind it stands alone, a part without a value is left out. */
export function commandLine(words: readonly string[], parts: readonly (CommandPart | undefined)[]): string {
  const out = ['convert-beit', ...words.map(shellWord)];
  for (const part of parts) {
    if (!part) continue;
    const [flag, value] = part;
    out.push(flag);
    if (value === undefined) continue;
    for (const each of Array.isArray(value) ? (value as readonly string[]) : [value as string | number]) {
      out.push(shellWord(String(each)));
    }
  }
  return out.join(' ');
}
