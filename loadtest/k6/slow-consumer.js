// Readers that stall and readers that dawdle, beside readers that are prompt: the prompt ones get every change in time,
// and the slow ones are told exactly how many changes they lost, and get the newest state of more products than their
// queue has room for.

import exec from 'k6/execution';
import { check, sleep } from 'k6';
import { now } from './lib/clock.js';
import { endOf, productIds, websocketUrl } from './lib/knobs.js';
import { load, once, options as optionsOf, readToTheEnd } from './lib/load.js';
import { readSlowly } from './lib/slow-reader.js';

const isConflating = (__ENV.ROWCAST_SLOW_CONSUMER || 'conflate') === 'conflate';
// Under the other policies, few enough that the last change of each has room in a queue.
const products = isConflating ? 64 : 10;

const slow = load('slow-consumer', {
  VUS: 2,
  SOCKETS: 8, // prompt ones, of each virtual user
  STALLED: 3, // sockets that stop reading once, for STALL
  STALL: '7s',
  DAWDLING: 3, // sockets that wait DAWDLE after each change
  DAWDLE: '100ms',
  PRODUCTS: products,
  SUBSCRIPTIONS: products,
  RATE: 40,
  PAYLOAD_BYTES: 20_000, // the kernel's buffers hold megabytes, which have to be full before the server notices
  DURATION: '15s',
  ROWCAST_SLOW_CONSUMER: 'conflate', // the server's policy, which it has to be started with
  ROWCAST_SEND_QUEUE_FRAMES: 32, // likewise, under conflate; fewer than there are products
});
const { knobs } = slow;
if (isConflating && knobs.ROWCAST_SEND_QUEUE_FRAMES >= knobs.PRODUCTS) {
  throw new Error(`PRODUCTS=${knobs.PRODUCTS}: more than ROWCAST_SEND_QUEUE_FRAMES=${knobs.ROWCAST_SEND_QUEUE_FRAMES} are needed`);
}
const slowSockets = knobs.STALLED + knobs.DAWDLING;
const isDisconnected = knobs.ROWCAST_SLOW_CONSUMER === 'disconnect';
// 1013 says that the reader was too slow. One that stalls for longer than the server waits for its close to be read
// finds the connection cut, which is 1006.
const closeCodes = isDisconnected ? [1013, 1006] : [];

export const options = optionsOf(knobs, {
  more: { slow: once('readSlow', slowSockets, knobs) },
  sockets: knobs.VUS * knobs.SOCKETS + slowSockets,
  bounds: {
    'rowcast_received{reader:slow}': ['count>0'],
    'rowcast_missing{reader:slow}': ['count==0'],
    'rowcast_missing{reader:prompt}': ['count==0'],
    // Without a loss, nobody was slow, and the run shows nothing.
    'rowcast_skipped{reader:slow}': isDisconnected ? ['count>=0'] : ['count>0'],
  },
});
export const { publish, teardown, handleSummary } = slow;

export const read = () => readToTheEnd(knobs);

export function readSlow() {
  const stalls = exec.scenario.iterationInTest < knobs.STALLED;
  const { ledger, wasGivenUp } = readSlowly(websocketUrl(knobs), productIds(knobs), {
    dawdle: stalls ? stallOnce() : dawdle,
    deadline: endOf(knobs),
    closeCodes,
  });
  const kind = stalls ? 'a stalled' : 'a dawdling';
  if (isDisconnected) check(wasGivenUp, { [`${kind} reader was given up`]: (given) => given });
  else check(ledger, { [`${kind} reader was told of its losses`]: ({ skipped }) => skipped > 0 });
}

// Reads until every product has begun, so that the first gap can be counted; then not at all for a while; then again.
function stallOnce() {
  let isDone = false;
  return (ledger) => {
    if (isDone || !ledger.hasBegun) return;
    isDone = true;
    sleep(knobs.STALL / 1000);
  };
}

// When the writers have stopped, it catches up.
function dawdle(ledger) {
  if (ledger.hasBegun && now() < knobs.WARMUP + knobs.DURATION) sleep(knobs.DAWDLE / 1000);
}
