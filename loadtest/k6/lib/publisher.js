// The writers: each has products of its own, so that the sequence of a product is the order of its commits.

import http from 'k6/http';
import exec from 'k6/execution';
import { check } from 'k6';
import { authorization } from './access.js';
import { now, sleepUntil } from './clock.js';
import { productIds } from './knobs.js';
import { late, published, write } from './metrics.js';
import { stamped } from './stamp.js';

const HEADERS = { 'Content-Type': 'application/json', ...authorization };

// Writes this virtual user's part of RATE changes a second for DURATION, one at a time, in turn over its products, and
// the last change of each.
export function publish(knobs) {
  const number = exec.scenario.iterationInTest;
  const products = productIds(knobs).filter((id) => id % knobs.PUBLISHERS === number % knobs.PUBLISHERS);
  const histories = products.map((id) => ({ id, sequence: 0, previousAt: 0 }));
  const intervalMs = (1000 * knobs.PRODUCTS) / (knobs.RATE * products.length);
  const begin = now() + (intervalMs * number) / knobs.PUBLISHERS;
  const changes = Math.floor(knobs.DURATION / intervalMs);
  for (let change = 0; change < changes; change += 1) {
    const due = begin + change * intervalMs;
    sleepUntil(due);
    late.add(now() - due);
    put(histories[change % histories.length], false, knobs);
    if (now() > begin + knobs.DURATION) break;
  }
  for (const history of histories) put(history, true, knobs);
}

function put(history, last, { BASE_URL, PAYLOAD_BYTES }) {
  const sentAt = now();
  const body = stamped({ sequence: history.sequence, sentAt, previousAt: history.previousAt, last }, PAYLOAD_BYTES);
  const reply = http.put(`${BASE_URL}/products/${history.id}`, body, {
    headers: HEADERS,
    tags: { name: 'PUT /products/{id}' },
  });
  write.add(now() - sentAt);
  if (reply.status === 0) exec.test.abort(`the server cannot be reached: ${reply.error}`);
  if (check(reply, { 'a write is answered 200 or 201': ({ status }) => status === 200 || status === 201 })) {
    published.add(1);
    history.sequence += 1;
    history.previousAt = sentAt;
  }
}

// Leaves no product behind, where there still is a server.
export function removeProducts(knobs) {
  if (http.get(`${knobs.BASE_URL}/healthz`).status === 0) return;
  const params = {
    headers: authorization,
    responseCallback: http.expectedStatuses(204, 404),
    tags: { name: 'DELETE /products/{id}' },
  };
  http.batch(productIds(knobs).map((id) => ['DELETE', `${knobs.BASE_URL}/products/${id}`, null, params]));
}
