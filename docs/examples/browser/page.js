/**
 * The page: a model folder, a picture, the best classes.
 *
 * `?model=models/beit/&dtype=q8&device=webgpu&image=cat.jpg` says what to begin with.
 */
import { openFolder, openModel } from './folder.js';
import { decode, place, preprocess } from './picture.js';

const TOP = 5;
const DEFAULT_FOLDER = 'models/beit/';

const at = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);

let folder;
let model;
/** the picture's file */
let chosen;

/** One thing after another: a session does one at a time. */
let last = Promise.resolve();
let waiting = 0;
function next(work) {
  if (waiting === 0) at('error').hidden = true;
  waiting += 1;
  at('main').ariaBusy = 'true';
  last = last.then(async () => {
    try {
      await work();
      say(model && !chosen ? 'Ready for a picture.' : '');
    } catch (error) {
      say('');
      at('error').textContent = error.message;
      at('error').hidden = false;
    }
    at('progress').hidden = true;
    waiting -= 1;
    at('main').ariaBusy = String(waiting > 0);
  });
}

function say(text) {
  at('status').textContent = text;
  at('status').hidden = text === '';
  // Let it be seen before something long begins.
  return new Promise((resolve) => setTimeout(resolve, 20));
}

async function load(wanted = at('precision').value) {
  const old = model;
  folder = model = undefined;
  clear();
  await old?.release();
  await say('Loading the model …');
  const opened = await openFolder(at('model').value);
  at('precision').replaceChildren(...opened.precisions.map((name) => new Option(name)));
  const choice = [wanted, opened.preferred, opened.precisions[0]];
  const precision = choice.find((name) => opened.precisions.includes(name));
  at('precision').value = precision;
  model = await openModel(opened, precision, at('device').value, (done, total) => {
    at('progress').hidden = false;
    if (total) Object.assign(at('progress'), { max: total, value: done });
    else at('progress').removeAttribute('value');
  });
  folder = opened;
  if (chosen) await classify();
}

async function choose(file) {
  clear();
  chosen = file;
  URL.revokeObjectURL(at('picture').src);
  at('picture').src = URL.createObjectURL(file);
  const readable = await at('picture')
    .decode()
    .then(
      () => true,
      () => false,
    );
  at('stage').hidden = !readable;
  at('frame').hidden = true;
  if (!readable) {
    chosen = undefined;
    throw new Error(`${file.name} is no picture that this browser can read.`);
  }
  await (model ? classify() : load());
}

async function classify() {
  await say('Looking at the picture …');
  const picture = await decode(chosen);
  const pixels = preprocess(picture, folder.steps);
  const start = performance.now();
  const scores = await model.classify(pixels);
  const took = performance.now() - start;
  showFrame(picture);
  showScores(scores);
  const threads = model.threads > 1 ? `, ${model.threads} threads` : '';
  const device = at('device').selectedOptions[0].text;
  at('facts').textContent =
    `${folder.name}, ${at('precision').value}, on ${device}${threads}: ${took.toFixed(0)} ms. ` +
    `The picture became ${folder.steps.crop[1]}×${folder.steps.crop[0]} pixels` +
    `${at('frame').hidden ? '' : '; what is dark was cut off'}.`;
}

function clear() {
  at('classes').replaceChildren();
  at('facts').textContent = '';
}

/** Around the part that the model sees. */
function showFrame(picture) {
  const { size, first } = place(picture, folder.steps);
  const share = (pixels, side) => `${(100 * pixels) / size[side]}%`;
  const [height, width] = folder.steps.crop;
  Object.assign(at('frame').style, {
    top: share(first[0], 0),
    left: share(first[1], 1),
    height: share(height, 0),
    width: share(width, 1),
  });
  at('frame').hidden = height === size[0] && width === size[1];
}

function showScores(scores) {
  const best = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, TOP);
  const rows = best.map((index) => {
    const row = document.createElement('li');
    const value = document.createElement('data');
    value.value = String(scores[index]);
    value.textContent = `${(100 * scores[index]).toFixed(1)} %`;
    const bar = document.createElement('span');
    bar.className = 'bar';
    bar.style.setProperty('--part', `${100 * scores[index]}%`);
    row.append(folder.label(index), value, bar);
    return row;
  });
  at('classes').replaceChildren(...rows);
}

at('file').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  if (file) next(() => choose(file));
});
addEventListener('paste', ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (file) next(() => choose(file));
});
addEventListener('dragover', (event) => {
  event.preventDefault();
  at('drop').classList.add('over');
});
addEventListener('dragleave', () => at('drop').classList.remove('over'));
addEventListener('drop', (event) => {
  event.preventDefault();
  at('drop').classList.remove('over');
  const [file] = event.dataTransfer.files;
  if (file) next(() => choose(file));
});
at('settings').addEventListener('submit', (event) => {
  event.preventDefault();
  next(load);
});
for (const id of ['precision', 'device']) at(id).addEventListener('change', () => next(load));

at('model').value = asked.get('model') ?? DEFAULT_FOLDER;
at('device').value = asked.get('device') ?? 'wasm';
if (!navigator.gpu) at('device').querySelector('[value=webgpu]').disabled = true;
next(() => load(asked.get('dtype')));
const first = asked.get('image');
if (first) {
  next(async () => {
    const response = await fetch(first);
    if (!response.ok) throw new Error(`${first}: the server answers ${response.status}.`);
    await choose(new File([await response.blob()], first));
  });
}
