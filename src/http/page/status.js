// The head of the page: the connection's state, and the meters of the changes.

import { RateMeter } from './rate.js';
import { agoText, countText, rateText } from './text.js';

const TICK_MS = 250;
const SAMPLE_MS = 500;
const LINE_SAMPLES = 60;

export class Status {
  #rate = new RateMeter();
  #changes = 0;
  #skipped = 0;
  #lastChangeMs = null;
  #state = 'connecting';
  #retryAt = null;
  #samples = [];
  #sampledAtMs = 0;

  constructor(retry) {
    element('retry').addEventListener('click', retry);
    addEventListener('offline', () => this.#drawState());
    addEventListener('online', () => this.#drawState());
    setInterval(() => this.#tick(), TICK_MS);
  }

  entered(state, retryAt) {
    this.#state = state;
    this.#retryAt = retryAt;
    this.#drawState();
  }

  // A change came.
  changed() {
    this.#changes += 1;
    this.#lastChangeMs = performance.now();
    this.#rate.add(this.#lastChangeMs);
  }

  skipped(count) {
    this.#skipped += count;
  }

  #tick() {
    const now = performance.now();
    this.#sample(now);
    if (document.hidden) return;
    if (this.#state === 'waiting') this.#drawState();
    write('rate', rateText(this.#rate.perSecond(now)));
    write('changes', countText(this.#changes));
    write('last-change', this.#lastChangeMs === null ? 'none yet' : agoText(now - this.#lastChangeMs));
    write('skipped', countText(this.#skipped));
    element('skipped-meter').classList.toggle('some', this.#skipped > 0);
  }

  #sample(now) {
    if (now - this.#sampledAtMs < SAMPLE_MS - TICK_MS / 2) return;
    this.#sampledAtMs = now;
    this.#samples = [...this.#samples, this.#rate.perSecond(now)].slice(-LINE_SAMPLES);
    if (!document.hidden) element('rate-line').firstElementChild.setAttribute('d', linePath(this.#samples));
  }

  #drawState() {
    const name = this.#name();
    element('state').dataset.state = name;
    write('state-text', this.#state === 'waiting' ? this.#countdown(name) : TEXTS[name]);
    // A countdown read aloud every second would be noise: only the state's name is announced.
    write('state-announced', NAMES[name]);
    element('retry').hidden = this.#state !== 'waiting';
  }

  #name() {
    if (this.#state !== 'waiting' && this.#state !== 'connecting') return this.#state;
    if (!navigator.onLine) return 'offline';
    return this.#state === 'waiting' ? 'reconnecting' : 'connecting';
  }

  #countdown(name) {
    const seconds = Math.max(1, Math.ceil((this.#retryAt - Date.now()) / 1000));
    return `${name === 'offline' ? 'Offline, retrying' : 'Reconnecting'} in ${seconds} s`;
  }
}

const TEXTS = {
  live: 'Live',
  syncing: 'Catching up…',
  stale: 'Not live',
  refused: 'Not available',
  connecting: 'Connecting…',
  offline: 'Offline, connecting…',
};

const NAMES = {
  live: 'Live',
  syncing: 'Catching up',
  stale: 'Not live, what is shown may be old',
  refused: 'Not available',
  connecting: 'Connecting',
  reconnecting: 'Reconnecting',
  offline: 'Offline',
};

// An area whose right end is the newest sample, in the 60 × 24 box of the drawing.
function linePath(samples) {
  const peak = Math.max(1, ...samples);
  const points = samples.map((value, i) => `${LINE_SAMPLES - samples.length + i + 1} ${23 - (21 * value) / peak}`);
  return `M${LINE_SAMPLES - samples.length + 1} 24L${points.join('L')}L${LINE_SAMPLES} 24Z`;
}

function element(id) {
  return document.getElementById(id);
}

function write(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}
