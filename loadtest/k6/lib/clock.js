// The one clock of a run. All virtual users live in one k6 process, so what one of them writes down another can compare.

import exec from 'k6/execution';
import { sleep } from 'k6';
import { setTimeout } from 'k6/timers';

// Looked up once: k6 makes a new object each time that it is asked for.
let instance;

// Milliseconds since the run began, with fractions, which `Date.now()` has not; it never goes back.
export const now = () => (instance ??= exec.instance).currentTestRunDuration;

// Holds a virtual user, its sockets included, until `ms` on this clock.
export function sleepUntil(ms) {
  const left = ms - now();
  if (left > 0) sleep(left / 1000);
}

// Resolves after `ms`; sockets go on meanwhile.
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(1, ms)));
