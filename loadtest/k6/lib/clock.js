// The one clock of a run. All virtual users live in one k6 process, so what one of them writes down another can
// compare.

import exec from 'k6/execution';
import { sleep } from 'k6';
import { setTimeout } from 'k6/timers';

// Looked up once: k6 makes a new object each time that it is asked for.
let instance;

// Milliseconds since the run began, with fractions, which `Date.now()` has not; it never goes back.
export const now = () => (instance ??= exec.instance).currentTestRunDuration;

// What `now` was when the wall clock showed `ms`, which k6 notes for each message that it takes from a socket.
export function atWall(ms) {
  wallAtStart = Math.max(wallAtStart, Date.now() - now());
  return ms - wallAtStart;
}

// The wall clock when the run began. `Date.now()` drops the fraction, and some time passes before `now()`, so each
// difference is too small, and the greatest is the best.
let wallAtStart = 0;

// Holds a virtual user, its sockets included, until `ms` on this clock.
export function sleepUntil(ms) {
  const left = ms - now();
  if (left > 0) sleep(left / 1000);
}

// Resolves after `ms`; sockets go on meanwhile.
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(1, ms)));
