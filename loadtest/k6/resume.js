// Every socket closes at the same moment and comes back with the versions and the epoch that its reader knows, several
// times while changes go on, and twice after the last: it is told all that changed meanwhile, and nothing else.

import { check } from 'k6';
import { now, pause } from './lib/clock.js';
import { endOf } from './lib/knobs.js';
import { load, openAll, options as optionsOf } from './lib/load.js';
import { repeated, resumed, resuming, wrong } from './lib/metrics.js';
import { finalVersions } from './lib/store.js';

const resume = load('resume', {
  VUS: 4,
  SOCKETS: 25,
  STORMS: 4,
  PRODUCTS: 100,
  SUBSCRIPTIONS: 20,
  RATE: 40,
  DURATION: '15s',
  RESUME_P99_MS: 3000,
});
const { knobs } = resume;
const readers = knobs.VUS * knobs.SOCKETS;
const resumes = readers * (knobs.STORMS + 2);

export const options = optionsOf(knobs, {
  sockets: readers + resumes,
  bounds: {
    rowcast_sockets_resumed: [`count==${resumes}`],
    rowcast_states_wrong: ['count==0'],
    rowcast_states_repeated: ['count==0'],
    rowcast_resume_ms: [`p(99)<${knobs.RESUME_P99_MS}`],
    // What changes while a reader's states are on their way comes once, as the newest.
    'rowcast_skipped{reader:prompt}': ['count>=0'],
  },
});
export const { publish, teardown, handleSummary } = resume;

export async function read() {
  let open = openAll(knobs, undefined, () => ({ asksStates: true }));
  await Promise.all(open.map((reader) => reader.ready));
  for (let round = 1; round <= knobs.STORMS; round += 1) {
    await pause(knobs.WARMUP + (knobs.DURATION * round) / (knobs.STORMS + 1) - now());
    open = await comeBack(await leave(open));
  }
  // They are away while the last changes are written.
  const away = await leave(open);
  const versions = await finalVersions(knobs, endOf(knobs));
  check(versions, { 'the last changes are in the store': (found) => found !== null });
  open = await comeBack(away);
  wrong.add(open.reduce((sum, { ledger }) => sum + ledger.differences(versions ?? new Map()), 0));
  // Nothing has changed since.
  open = await comeBack(await leave(open));
  repeated.add(open.reduce((sum, { states }) => sum + states, 0));
  await leave(open);
}

// Resolves to what the readers know.
async function leave(open) {
  const known = open.map(({ epoch, ledger }) => ({ epoch, versionsById: ledger.versionsById }));
  await Promise.all(open.map((reader) => reader.close()));
  return known;
}

// Opens all sockets again, and resolves when all are up to date.
async function comeBack(known) {
  const openedAt = now();
  const open = openAll(
    knobs,
    (place) => known[place].versionsById,
    (place) => ({ asksStates: true, epoch: known[place].epoch }),
  );
  const back = open.map(async (reader) => {
    if (!(await reader.ready)) return;
    resuming.add(now() - openedAt);
    resumed.add(1);
  });
  await Promise.all(back);
  return open;
}
