// The metrics that the scenarios add to k6's own, and the bounds that make a run fail.

import { Counter, Trend } from 'k6/metrics';

// From before a write is sent until k6 has read the change from a socket: HTTP, the commit, the fan-out.
export const latency = new Trend('rowcast_latency_ms', true);
// How much later the script saw it, which says whether k6 keeps up. Of every eighth change.
export const k6Wait = new Trend('rowcast_k6_wait_ms', true);
// From opening a socket until the server said that it is subscribed.
export const opening = new Trend('rowcast_opening_ms', true);
// How long a write took.
export const write = new Trend('rowcast_write_ms', true);
// How much later than planned a write was sent.
export const late = new Trend('rowcast_write_late_ms', true);

// From opening a socket until the server said that it has told all that differs from what the reader knew.
export const resuming = new Trend('rowcast_resume_ms', true);

export const resumed = new Counter('rowcast_sockets_resumed');
// Products that a reader knew otherwise than the store had them.
export const wrong = new Counter('rowcast_states_wrong');
// Products that came although they had not changed.
export const repeated = new Counter('rowcast_states_repeated');
export const published = new Counter('rowcast_published');
export const received = new Counter('rowcast_received');
export const skipped = new Counter('rowcast_skipped');
export const disordered = new Counter('rowcast_out_of_order');
export const missing = new Counter('rowcast_missing');
export const refused = new Counter('rowcast_refused');
export const subscribed = new Counter('rowcast_sockets_subscribed');
export const finished = new Counter('rowcast_sockets_finished');
export const unexpectedCloses = new Counter('rowcast_unexpected_closes');

// Adds up what one socket's ledger says when the socket has ended.
export function settle(ledger, { withLast, reader }) {
  const tags = { reader };
  received.add(ledger.received, tags);
  skipped.add(ledger.skipped, tags);
  disordered.add(ledger.disordered, tags);
  missing.add(ledger.missing(withLast), tags);
  if (!withLast || ledger.isComplete) finished.add(1, tags);
}

// The bounds of every scenario with readers, of which `sockets` end over the whole run, or null where
// nobody can know.
export function thresholds({ P95_MS, P99_MS }, sockets) {
  return {
    checks: ['rate==1'],
    rowcast_latency_ms: [`p(95)<${P95_MS}`, `p(99)<${P99_MS}`],
    rowcast_received: ['count>0'],
    'rowcast_skipped{reader:prompt}': ['count==0'],
    rowcast_out_of_order: ['count==0'],
    rowcast_missing: ['count==0'],
    rowcast_refused: ['count==0'],
    rowcast_unexpected_closes: ['count==0'],
    ...(sockets === null ? {} : { rowcast_sockets_finished: [`count==${sockets}`] }),
  };
}

export const trendStats = ['count', 'min', 'med', 'p(95)', 'p(99)', 'max'];
