// What can be set from outside: environment variables, with the defaults that a scenario gives.

const EVERYWHERE = {
  BASE_URL: 'http://127.0.0.1:8080',
  VUS: 4, // virtual users; those that hold sockets, where there are several kinds
  DURATION: '10s', // of the writing
  FIRST_ID: 4_000_000_000, // products are FIRST_ID, FIRST_ID + 1, …; they are deleted at the end
};

// What concerns sockets.
export const FAN_OUT = {
  SOCKETS: 25, // of each virtual user
  PRODUCTS: 50,
  SUBSCRIPTIONS: 10, // products of each socket
  RATE: 50, // changes a second, over all products
  WARMUP: '2s', // for the sockets to open, before the writing
  GRACE: '10s', // for the last changes to arrive, after the writing
  PUBLISHERS: 2, // virtual users that write; each has products of its own
  PAYLOAD_BYTES: 0, // added to each product
  P95_MS: 500, // bounds of the latency; a run that exceeds them fails
  P99_MS: 1000,
};

const UNITS_MS = { ms: 1, s: 1000, m: 60_000 };

// The knobs of one scenario. A default like '10s' makes a duration, which is handed on in milliseconds; a number makes
// a number that is not negative; any other text, text.
export function knobs(defaults = {}) {
  const values = {};
  for (const [name, fallback] of Object.entries({ ...EVERYWHERE, ...defaults })) {
    values[name] = valueOf(name, fallback, __ENV[name]);
  }
  values.BASE_URL = values.BASE_URL.replace(/\/+$/, '');
  guard(values);
  return values;
}

const LOOPBACK = /^http:\/\/(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?$/;

// Refuses, before anything is sent, servers elsewhere and ones whose products somebody may need. run.sh sets
// OVERWRITE_PRODUCTS for the server that it starts.
function guard({ BASE_URL, FIRST_ID }) {
  if (!LOOPBACK.test(BASE_URL)) throw new Error(`BASE_URL=${BASE_URL} is not http:// on a loopback address`);
  if (__ENV.OVERWRITE_PRODUCTS === '1') return;
  throw new Error(
    `this writes and deletes products of ${BASE_URL}, from ${FIRST_ID} on: set OVERWRITE_PRODUCTS=1 if nobody needs them`,
  );
}

function valueOf(name, fallback, given) {
  const text = given === undefined || given === '' ? String(fallback) : given;
  if (typeof fallback === 'number') {
    const number = Number(text);
    if (!(number >= 0)) throw new Error(`${name}=${text}: a number is expected, such as ${fallback}`);
    return number;
  }
  if (!/^[\d.]+(ms|s|m)$/.test(fallback)) return text;
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text) ?? [];
  if (!unit) throw new Error(`${name}=${text}: a time is expected, such as ${fallback} (ms, s or m)`);
  return Number(amount) * UNITS_MS[unit];
}

export const websocketUrl = ({ BASE_URL }) => `${BASE_URL.replace(/^http/, 'ws')}/websocket`;

export const productIds = ({ FIRST_ID, PRODUCTS }) => Array.from({ length: PRODUCTS }, (_, i) => FIRST_ID + i);

// The products of socket number `socket`: neighbours, so that all sockets together cover all products evenly.
export function subscriptionsOf(socket, { FIRST_ID, PRODUCTS, SUBSCRIPTIONS }) {
  return Array.from({ length: SUBSCRIPTIONS }, (_, i) => FIRST_ID + ((socket * SUBSCRIPTIONS + i) % PRODUCTS));
}

// When a reader gives up waiting for the last change, on the clock of the run.
export const endOf = ({ WARMUP, DURATION, GRACE }) => WARMUP + DURATION + GRACE;
