/**
 * The report as one page that needs nothing else: verdict first, charts as inline SVG, no script, no network.
 */
import type { Check, ClassShare, InputParity, LayersReport, Prediction } from '../report.js';
import { units } from '../checks/logits.js';
import { errorChart, escapeHtml as e, rangeChart } from './charts.js';
import type { LogitDetails, ReportDocument } from './data.js';
import {
  VERDICTS,
  called,
  fileFacts,
  headlineFacts,
  bandName,
  layersSentence,
  machineFacts,
  outcomeOf,
  sourceFacts,
  verdictSentence,
  type Fact,
} from './facts.js';
import { outputs } from './html-outputs.js';
import { section, table, valueCharts } from './html-parts.js';
import { STYLE } from './style.js';

/** The band drawn around the expected rms noise, as a factor to both sides; a place beyond it is looked at closely. */
const BAND = 8;

export function htmlReport(document: ReportDocument): string {
  return htmlReports([document]);
}

/** One page for several files of one source: what they share is said once. */
export function htmlReports(documents: readonly ReportDocument[]): string {
  const [first] = documents;
  const worst =
    (['failed', 'skipped'] as const).find((verdict) =>
      documents.some(({ parity }) => parity.verdict === verdict),
    ) ?? 'passed';
  const title = `${VERDICTS[worst]}: ${first.source.id}`;
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width,initial-scale=1">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">`,
    '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">',
    `<title>${e(title)}</title><style>${STYLE}</style></head><body><main>`,
    ...documents.flatMap((document, at) => fileSections(document, at)),
    weights(first),
    section(
      'How to make this report again',
      `<pre><code>${e(first.command)}</code></pre><p class="soft">Generated inputs depend on the seed only; numbers differ between processors by float32 rounding.</p>`,
    ),
    '</main></body></html>',
    '',
  ].join('\n');
}

function fileSections(document: ReportDocument, at: number): string[] {
  const { parity } = document;
  const prefix = at === 0 ? '' : `file-${at}-`;
  return [
    verdict(document),
    at === 0 ? whatWasCompared(document) : section('The file', list(fileFacts(document))),
    checks(parity.checks),
    parity.layers ? layers(parity.layers, prefix) : '',
    parity.outputs ? outputs(document, prefix) : inputs(parity.inputs, !parity.logits?.quality),
    ...document.logits.slice(0, 1).map((details) => logits(details, parity.inputs.length, prefix)),
    pictures(document),
  ];
}

function list(facts: readonly Fact[]): string {
  const row = ({ name, value }: Fact): string =>
    `<dt>${e(name)}</dt><dd${name === 'sha256' || name === 'commit' ? ' class="hash"' : ''}>${name === 'sha256' || name === 'commit' ? `<code>${e(value)}</code>` : e(value)}</dd>`;
  return `<dl class="list">${facts.map(row).join('')}</dl>`;
}

function verdict(document: ReportDocument): string {
  const { parity, files } = document;
  const facts = headlineFacts(document);
  const divergence = parity.layers?.divergence
    ? `<p><strong>${e(layersSentence(parity.layers))}</strong></p>`
    : '';
  const numbers = facts
    .map(({ name, value }) => `<div><dt>${e(name)}</dt><dd>${e(value)}</dd></div>`)
    .join('');
  return (
    `<section class="verdict ${parity.verdict}"><h1>Parity report: ${e(files[0]?.name ?? '')}</h1>` +
    `<p class="big">${VERDICTS[parity.verdict]}</p><p>${e(verdictSentence(document))}</p>${divergence}` +
    (numbers === '' ? '' : `<dl class="facts">${numbers}</dl>`) +
    '</section>'
  );
}

function whatWasCompared(document: ReportDocument): string {
  const notes = document.source.notes.map((note) => `<li>${e(note)}</li>`).join('');
  return section(
    'What was compared',
    `<div class="pair"><div><h3>The source</h3>${list(sourceFacts(document))}</div>` +
      `<div><h3>The file</h3>${list(fileFacts(document))}<h3>Where</h3>${list(machineFacts(document))}</div></div>` +
      (notes === '' ? '' : `<h3>Notes</h3><ul>${notes}</ul>`),
  );
}

const CLASSES = { ok: 'ok', failed: 'no', 'not run': 'na', 'n/a': 'na' } as const;
const MOST_FINDINGS = 12;

function checks(all: readonly Check[]): string {
  if (all.length === 0) return '';
  const rows = all.map((check) => {
    const outcome = outcomeOf(check);
    const more = check.findings.filter((finding) => finding !== check.detail);
    const rest = more.length > MOST_FINDINGS ? [`and ${more.length - MOST_FINDINGS} more`] : [];
    const findings = [...more.slice(0, MOST_FINDINGS), ...rest]
      .map((finding) => `<li>${e(finding)}</li>`)
      .join('');
    return `<tr><td>${e(check.name)}</td><td class="${CLASSES[outcome]}">${outcome}</td><td>${e(check.detail)}${findings === '' ? '' : `<ul>${findings}</ul>`}</td></tr>`;
  });
  return section(
    'Checks',
    `<div class="scroll"><table class="checks"><thead><tr><th>check</th><th>outcome</th><th>what was found</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`,
  );
}

function layers(report: LayersReport, prefix: string): string {
  const { points, steps, suspects } = report;
  const body = [`<p>${e(layersSentence(report))}</p>`];
  if (points.length > 0) {
    const off = points.find(({ units: of }) => !(of <= BAND));
    const band = bandName(report);
    const places = placesOf(points.map(({ name }) => name));
    const chart = errorChart(
      {
        id: `${prefix}layers`,
        title: `Error after every part of the network, against ${band}`,
        description: `${points.length} places along the network. ${off ? `The error leaves the band at ${off.name}.` : 'The error stays inside the band everywhere.'}`,
      },
      points.map(({ rms, noise }, i) => ({ ...places.points[i], error: rms, noise })),
      BAND,
    );
    body.push(
      `<figure>${chart}<figcaption>rms error of the file against the float64 reference (line), ${band} there (dashed), and ${BAND} times to both sides of it (band). ${e(places.legend)}</figcaption></figure>`,
    );
  }
  if (steps.length > 0) {
    const rows = steps.map(({ step, rms, noise, units: of }) => [
      step,
      rms.toExponential(1),
      noise.toExponential(1),
      units(of),
    ]);
    const numbers = ['rms error', 'expected', 'times'].map((title) => ({ title, number: true }) as const);
    body.push(
      '<h3>Step by step, from the file’s own inputs of each step</h3>',
      table([{ title: 'step', long: true }, ...numbers], rows),
    );
  }
  if (suspects.length > 0) {
    const rows = suspects
      .slice(0, 8)
      .map(
        ({ mistake, tensors, explainsAll }) =>
          `<li>${e(mistake)} <span class="soft">(${explainsAll ? 'explains all of the error' : 'explains most of the error'}${tensors.length > 0 ? `; ${e(tensors.join(', '))}` : ''})</span></li>`,
      );
    body.push(`<h3>Mistakes that fit</h3><ul>${rows.join('')}</ul>`);
  }
  return section('Layer by layer', body.join(''));
}

/** Short names for the axis, and what they stand for. Several outputs have a letter each and stand aside. */
function placesOf(names: readonly string[]): {
  points: readonly { label: string; aside: boolean }[];
  legend: string;
} {
  const way = new Map([
    ['embedding', 'in'],
    ['features', 'norm'],
  ]);
  const outputs = names.filter((name) => !way.has(name) && !/^block \d+$/.test(name));
  const label = (name: string): string =>
    way.get(name) ??
    (outputs.includes(name)
      ? outputs.length === 1
        ? 'out'
        : letters(outputs.indexOf(name))
      : name.replace('block ', ''));
  const said = names.filter((name) => !/^block /.test(name)).map((name) => `${label(name)}: ${name}`);
  return {
    points: names.map((name) => ({
      label: label(name),
      aside: outputs.length > 1 && outputs.includes(name),
    })),
    legend: `Numbers: blocks; ${said.join('; ')}.`,
  };
}

/** `a` … `z`, `aa`, … */
function letters(index: number): string {
  const last = String.fromCharCode(97 + (index % 26));
  return index < 26 ? last : letters(Math.floor(index / 26) - 1) + last;
}

const MOST_INPUTS = 40;

function inputs(all: readonly InputParity[], judgedByNoise: boolean): string {
  if (all.length === 0) return '';
  const rows = all
    .slice(0, MOST_INPUTS)
    .map(({ name, maxAbs, noiseUnits, written, oracle }) => [
      name,
      maxAbs.toExponential(1),
      ...(judgedByNoise ? [units(noiseUnits)] : []),
      called(written[0]),
      called(oracle[0]),
    ]);
  const rest =
    all.length > MOST_INPUTS ? `<p class="soft">and ${all.length - MOST_INPUTS} more inputs</p>` : '';
  const columns = [
    { title: 'input', long: true },
    { title: 'max |error|', number: true },
    ...(judgedByNoise ? [{ title: 'noise units', number: true } as const] : []),
    { title: 'best by the file', long: true },
    { title: 'best by the source', long: true },
  ] as const;
  return section('Output by output', table(columns, rows) + rest);
}

function logits(
  { input, classes, noise, sample, histogram }: LogitDetails,
  count: number,
  prefix: string,
): string {
  const which = count > 1 ? ` (the first of ${count} inputs)` : '';
  return section(
    'Logits',
    valueCharts({
      prefix,
      what: 'logit',
      where: `for ${input}${which}`,
      all: classes,
      noise,
      histogram,
      points: sample.map(({ class: index, written, oracle }) => ({
        x: oracle,
        y: written,
        says: `class ${index}: file ${written.toFixed(4)}, source ${oracle.toFixed(4)}`,
      })),
    }),
  );
}

/** Classes with a bar each: how sure a classifier is, or how much of its map a segmentation gives them. */
function shareList(title: string, classes: readonly (Prediction | ClassShare)[]): string {
  const odd = classes.some((each) => !Number.isFinite('share' in each ? each.share : each.probability));
  if (odd) return `<div><h3>${title}</h3><p>no finite numbers</p></div>`;
  const rows = classes.map((each) => {
    const percent = (100 * ('share' in each ? each.share : each.probability)).toFixed(1);
    return `<tr><td>${e(each.label ?? `class ${each.class}`)}<span class="share" style="width:${percent}%"></span></td><td class="n">${percent} %</td></tr>`;
  });
  return `<div><h3>${title}</h3><div class="scroll"><table><tbody>${rows.join('')}</tbody></table></div></div>`;
}

function pictures({ parity, pictures: all, source }: ReportDocument): string {
  const rows = all.flatMap(({ name, dataUrl }, at) => {
    // By place: two folders may have a picture of the same name.
    const input = parity.inputs.at(at);
    if (input?.name !== name) return [];
    const figure = `<figure><img src="${e(dataUrl)}" alt="${e(name)}"><figcaption>${e(name)}</figcaption></figure>`;
    const { places } = input;
    if (input.written.length === 0 && !places) {
      const noise = parity.outputs?.[0]?.quality ? '' : `, ${units(input.noiseUnits)} noise units`;
      return `<div class="picture">${figure}<p>largest error of all outputs: ${input.maxAbs.toExponential(1)}${noise}</p></div>`;
    }
    const sides = places
      ? [shareList('by the file', places.written), shareList('by the source', places.oracle)]
      : [shareList('by the file', input.written), shareList('by the source', input.oracle)];
    const said = places
      ? `<p class="soft">best class of ${places.compared.toLocaleString('en-US')} places: ${places.same === places.compared ? 'the same everywhere' : `the same at ${places.same.toLocaleString('en-US')}`}</p>`
      : '';
    return `<div class="picture">${figure}<div>${said}<div class="pair">${sides.join('')}</div></div></div>`;
  });
  if (rows.length === 0) return '';
  const { resize, crop, interpolation, mean, std, origin } = source.preprocessing;
  const size = typeof resize === 'number' ? `short side to ${resize}` : `to ${resize.join('×')}`;
  return section(
    'Pictures',
    `${rows.join('')}<p class="soft">resized ${size} (${interpolation}), cropped to ${crop.join('×')}, mean ${mean.join(' ')}, std ${std.join(' ')} (${e(origin)})</p>`,
  );
}

function weights({ weights: rows, unusual }: ReportDocument): string {
  if (rows.length === 0) return '';
  const chart = rangeChart(
    {
      id: 'weights',
      title: 'Weights of every part of the source',
      description: `Least, largest and mean value and standard deviation of ${rows.length} parts. ${unusual.length === 0 ? 'Nothing unusual was found.' : `Unusual: ${unusual.join('; ')}.`}`,
    },
    rows.map(({ name, statistics }) => ({ label: name, ...statistics })),
  );
  const body = rows.map(
    ({ name, statistics: of }) =>
      `<tr><td>${e(name)}</td><td class="n">${of.elements.toLocaleString('en-US')}</td><td class="n">${of.min.toPrecision(3)}</td><td class="n">${of.max.toPrecision(3)}</td><td class="n">${of.mean.toExponential(1)}</td><td class="n">${of.std.toPrecision(3)}</td><td class="n">${of.nan + of.infinite}</td></tr>`,
  );
  const odd =
    unusual.length === 0
      ? '<p>Nothing unusual: no NaN, no infinities, no zero tables, nothing that float16 could not hold.</p>'
      : `<ul>${unusual.map((each) => `<li>${e(each)}</li>`).join('')}</ul>`;
  return section(
    'Weights',
    `${odd}<figure>${chart}<figcaption>line: least to largest value; bar: one standard deviation around the mean</figcaption></figure>` +
      `<div class="scroll"><table><thead><tr><th>part</th><th class="n">numbers</th><th class="n">min</th><th class="n">max</th><th class="n">mean</th><th class="n">std</th><th class="n">NaN/Inf</th></tr></thead><tbody>${body.join('')}</tbody></table></div>`,
  );
}
