/**
 * One request for a part of a file, and everything that a server may answer to it.
 *
 * @see RFC 9110, sections 14 (range requests) and 15.3.7 (206 Partial Content)
 */
import { formatBytes } from '../../bytes.js';
import { NetworkError, printable } from '../../errors.js';
import { versionOf, type FileVersion } from './file-version.js';
import { request, RequestFailure, shownUrl, type Answer, type HttpContext } from './hub-http.js';

interface AnyAnswer {
  readonly answer: Answer;
  readonly version: FileVersion;
}

export interface PartAnswer extends AnyAnswer {
  readonly ranged: true;
  /** offset behind the last byte that is sent */
  readonly end: number;
  /** length of the whole file */
  readonly total: number;
}

/** The server sends the whole file whatever is asked for. */
export interface WholeAnswer extends AnyAnswer {
  readonly ranged: false;
  /** where the server says it */
  readonly total: number | undefined;
}

/**
 * Ask for bytes `[start, end)`. Whoever gets the answer reads it or cancels it.
 *
 * @throws RequestFailure when there is no answer, or a status that is no success; NetworkError when the answer is
 *   no part of a file
 */
export async function askForPart(
  context: HttpContext,
  address: string,
  start: number,
  end: number,
): Promise<PartAnswer | WholeAnswer> {
  const headers = { range: `bytes=${start}-${end - 1}`, 'accept-encoding': 'identity' };
  const answer = await request(context, address, { headers });
  try {
    refuseOtherThings(answer);
    const version = versionOf(answer.response.headers);
    if (answer.response.status !== 206) {
      return { answer, version, ranged: false, total: lengthOf(answer) };
    }
    return { answer, version, ranged: true, ...rangeOf(answer, start, end) };
  } catch (error) {
    answer.cancel();
    throw error;
  }
}

function rangeOf(answer: Answer, start: number, end: number): { end: number; total: number } {
  const text = answer.response.headers.get('content-range') ?? '';
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/.exec(text);
  const [first, last, total] = match ? match.slice(1).map(Number) : [];
  // A server may send less than was asked for, never from elsewhere.
  if (!match || first !== start || last < first || last >= Math.min(end, total)) {
    const found = text === '' ? 'no content-range' : `"${printable(text, 60)}"`;
    throw new RequestFailure(
      answer.url,
      `bytes ${start} to ${end - 1} were asked for; the answer has ${found}`,
      {
        transient: true,
      },
    );
  }
  return { end: last + 1, total };
}

function lengthOf(answer: Answer): number | undefined {
  const text = answer.response.headers.get('content-length') ?? '';
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** A page for people, or bytes that are not the file's own. */
function refuseOtherThings({ response, url }: Answer): void {
  const type = response.headers.get('content-type') ?? '';
  if (/^\s*(?:text\/html|application\/xhtml)/i.test(type) && !/\.x?html?$/i.test(url.pathname)) {
    throw new NetworkError(`${shownUrl(url)} is a web page (${printable(type, 60)}), not a file`, {
      next: `A sign-in page, a proxy or a page about the file may stand there: give the address of the file itself. ${DOWNLOAD_ELSEWHERE}`,
    });
  }
  const encoding = response.headers.get('content-encoding')?.trim().toLowerCase();
  if (encoding && encoding !== 'identity') {
    throw new NetworkError(
      `${shownUrl(url)} comes compressed (content-encoding: ${printable(encoding, 40)}), though its plain bytes were asked for`,
      { next: DOWNLOAD_ELSEWHERE },
    );
  }
}

/** @param found what tells that the file is another one now */
export function changedError(label: string, found: string): NetworkError {
  return new NetworkError(`${label} was changed on its server while it was read: ${found}`, {
    next: 'Start again; what was read so far is of no use.',
  });
}

/** How two answers about one file differ, as words. */
export function difference(before: PartFacts, now: PartFacts): string {
  if (before.total !== now.total) return `${formatBytes(before.total)} became ${formatBytes(now.total)}`;
  const word = ({ version }: PartFacts): string =>
    printable(version.etag ?? version.lastModified ?? 'nothing', 80);
  return `${word(before)} became ${word(now)}`;
}

export type PartFacts = Pick<PartAnswer, 'total' | 'version'>;

export const DOWNLOAD_ELSEWHERE = 'Download it with another program and give the file: --src <path>.';
