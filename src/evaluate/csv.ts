/** Comma-separated values (RFC 4180): quotes, doubled quotes, line breaks within quotes. */
import { InputError } from '../errors.js';

/**
 * @param file its name, for messages
 * @returns    rows of cells, empty lines left out
 * @throws InputError if a quote is not closed
 */
export function parseCsv(text: string, file: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = '';
  let quoted = false;
  let line = 1;
  let opened = 0;
  const endCell = (): void => {
    row.push(cell);
    cell = '';
  };
  const endRow = (): void => {
    endCell();
    if (row.length > 1 || row[0].trim() !== '') rows.push(row);
    row = [];
  };
  const body = text.replace(/^\ufeff/, '');
  for (let i = 0; i < body.length; i++) {
    const c = body[i];
    if (c === '\n') line += 1;
    if (quoted) {
      if (c !== '"') cell += c;
      else if (body[i + 1] === '"') {
        cell += '"';
        i += 1;
      } else quoted = false;
    } else if (c === '"' && cell === '') {
      quoted = true;
      opened = line;
    } else if (c === ',') endCell();
    else if (c === '\n') endRow();
    else if (c !== '\r' || body[i + 1] !== '\n') cell += c;
  }
  if (quoted) throw new InputError(`${file}: the quote opened in line ${opened} is not closed`);
  if (cell !== '' || row.length > 0) endRow();
  return rows;
}
