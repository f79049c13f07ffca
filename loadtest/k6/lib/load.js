// A whole load test: readers, writers, the bounds and the summary. A scenario says what differs.

import exec from 'k6/execution';
import { FAN_OUT, endOf, knobs as knobsOf, subscriptionsOf, websocketUrl } from './knobs.js';
import { thresholds, trendStats } from './metrics.js';
import { publish, removeProducts } from './publisher.js';
import { Reader } from './reader.js';
import { summary } from './summary.js';

// `defaults` are the scenario's knobs. What a scenario exports to k6 comes from here.
export function load(title, defaults) {
  const knobs = knobsOf({ ...FAN_OUT, ...defaults });
  // Nobody can subscribe to, or write, more products than there are.
  knobs.SUBSCRIPTIONS = Math.min(knobs.SUBSCRIPTIONS, knobs.PRODUCTS);
  knobs.PUBLISHERS = Math.min(knobs.PUBLISHERS, knobs.PRODUCTS);
  return {
    knobs,
    publish: () => publish(knobs),
    teardown: () => removeProducts(knobs),
    handleSummary: (data) => summary(title, knobs, data),
  };
}

// The options of k6. `more` are the scenario's own executors, by name, beside the readers and the writers; `bounds` its
// own thresholds. Over the whole run `sockets` are opened, null where chance decides.
export function options(knobs, { more = {}, bounds = {}, sockets = knobs.VUS * knobs.SOCKETS } = {}) {
  return {
    scenarios: {
      readers: once('read', knobs.VUS, knobs),
      publishers: { ...once('publish', knobs.PUBLISHERS, knobs), startTime: `${knobs.WARMUP}ms` },
      ...more,
    },
    thresholds: { ...thresholds(knobs, sockets), ...bounds },
    summaryTrendStats: trendStats,
  };
}

// An executor: `vus` virtual users that run the exported function `name` once.
export function once(name, vus, knobs) {
  const maxMs = endOf(knobs) + knobs.GRACE;
  return {
    executor: 'per-vu-iterations',
    exec: name,
    vus,
    iterations: 1,
    maxDuration: `${maxMs}ms`,
    gracefulStop: '5s',
  };
}

// One virtual user's sockets, open from before the first change to after the last.
export async function readToTheEnd(knobs) {
  await Promise.all(openAll(knobs).map((reader) => reader.untilTheLast(endOf(knobs))));
}

// Opens one virtual user's sockets. `versionsOf` gives what the reader in this place knew before, `optionsOf` the
// reader's options.
export function openAll(knobs, versionsOf = () => undefined, optionsOf = () => undefined) {
  const first = exec.scenario.iterationInTest * knobs.SOCKETS;
  return Array.from({ length: knobs.SOCKETS }, (_, place) => {
    const ids = subscriptionsOf(first + place, knobs);
    return new Reader(websocketUrl(knobs), ids, versionsOf(place), optionsOf(place));
  });
}
