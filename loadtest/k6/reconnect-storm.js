// Every socket closes at the same moment and opens again at once, several times, while changes go on: how long it takes
// until all are subscribed again, and that from there on they miss nothing.

import { now, pause } from './lib/clock.js';
import { endOf } from './lib/knobs.js';
import { load, openAll, options as optionsOf } from './lib/load.js';

const storm = load('reconnect-storm', {
  VUS: 4,
  SOCKETS: 125,
  STORMS: 4,
  PRODUCTS: 100,
  SUBSCRIPTIONS: 5,
  RATE: 40,
  DURATION: '16s',
  OPENING_P99_MS: 3000,
});
const { knobs } = storm;
const sockets = knobs.VUS * knobs.SOCKETS * (knobs.STORMS + 1);

export const options = optionsOf(knobs, {
  sockets,
  bounds: {
    rowcast_sockets_subscribed: [`count==${sockets}`],
    rowcast_opening_ms: [`p(99)<${knobs.OPENING_P99_MS}`],
  },
});
export const { publish, teardown, handleSummary } = storm;

export async function read() {
  let readers = openAll(knobs);
  for (let round = 1; round <= knobs.STORMS; round += 1) {
    await Promise.all(readers.map((reader) => reader.ready));
    await pause(knobs.WARMUP + (knobs.DURATION * round) / (knobs.STORMS + 1) - now());
    const versions = readers.map((reader) => reader.ledger.versionsById);
    await Promise.all(readers.map((reader) => reader.close()));
    readers = openAll(knobs, (place) => versions[place]);
  }
  await Promise.all(readers.map((reader) => reader.untilTheLast(endOf(knobs))));
}
