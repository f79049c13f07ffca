// Sockets that come and go, and change their subscriptions while they live, beside some that stay: neither kind may
// miss a change, and those that stay must not notice the others.

import exec from 'k6/execution';
import { now, pause } from './lib/clock.js';
import { subscriptionsOf, websocketUrl } from './lib/knobs.js';
import { load, once, options as optionsOf, readToTheEnd } from './lib/load.js';
import { Reader } from './lib/reader.js';

const churn = load('churn', {
  VUS: 3,
  SOCKETS: 30, // that come and go, of each virtual user
  WITNESSES: 30, // that stay
  LIFE_MIN: '100ms',
  LIFE_MAX: '2s',
  DURATION: '15s',
});
const { knobs } = churn;

export const options = optionsOf(knobs, { more: { witnesses: once('witness', 1, knobs) }, sockets: null });
export const { publish, teardown, handleSummary } = churn;

export const witness = () => readToTheEnd({ ...knobs, SOCKETS: knobs.WITNESSES });

export async function read() {
  const first = exec.scenario.iterationInTest * knobs.SOCKETS;
  await Promise.all(Array.from({ length: knobs.SOCKETS }, (_, place) => lives(first + place)));
}

// One reader that comes back under the same name until the writers stop, and knows the versions that it saw.
async function lives(name) {
  const end = knobs.WARMUP + knobs.DURATION;
  let versionsById;
  while (now() < end) {
    const ids = subscriptionsOf(name + Math.floor(Math.random() * knobs.PRODUCTS), knobs);
    const reader = new Reader(websocketUrl(knobs), ids, versionsById);
    if (await reader.ready) await live(reader, ids, end);
    versionsById = reader.ledger.versionsById;
    await reader.close();
  }
}

// Some time with all products, some without half of them, some with all again.
async function live(reader, ids, end) {
  const lifeMs = knobs.LIFE_MIN + Math.random() * (knobs.LIFE_MAX - knobs.LIFE_MIN);
  const third = Math.min(lifeMs, Math.max(0, end - now())) / 3;
  const half = ids.slice(0, Math.ceil(ids.length / 2));
  await pause(third);
  if (reader.isOpen) await reader.unsubscribe(half);
  await pause(third);
  if (reader.isOpen) await reader.subscribe(half);
  await pause(third);
}
