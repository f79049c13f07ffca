// The ledger is the judge of the load tests, so here is what it must find.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger } from './ledger.js';
import { stamped } from './stamp.js';

const ID = 7;

// A ledger that asked for a product at 100 ms and was accepted at 110 ms.
function subscribed() {
  const ledger = new Ledger();
  ledger.asked([ID], 100);
  ledger.accepted([ID], 110);
  return ledger;
}

// Change number `sequence`; one is sent every 10 ms, and the version is ten times the sequence.
function hear(ledger, sequence, { sentAt = 200 + 10 * sequence, version = 10 * sequence, last = false } = {}) {
  const product = { productId: ID, ...JSON.parse(stamped({ sequence, sentAt, previousAt: sentAt - 10, last }, 0)) };
  return ledger.change({ version, product });
}

test('every change in order, to the last, is as it should be', () => {
  const ledger = subscribed();
  assert.equal(hear(ledger, 0, { sentAt: 115.25 }), 115.25);
  hear(ledger, 1);
  assert.equal(ledger.isComplete, false);
  assert.equal(ledger.missing(true), 1);
  hear(ledger, 2, { last: true });
  assert.equal(ledger.isComplete, true);
  assert.deepEqual([ledger.received, ledger.disordered, ledger.missing(true)], [3, 0, 0]);
});

test('a gap is missing, unless a notice accounts for exactly it', () => {
  const ledger = subscribed();
  hear(ledger, 0, { sentAt: 115 });
  hear(ledger, 4, { last: true });
  assert.equal(ledger.missing(true), 3);
  assert.equal(ledger.isComplete, false);
  ledger.skip(3);
  assert.equal(ledger.missing(true), 0);
  assert.equal(ledger.isComplete, true);
  ledger.skip(1);
  assert.equal(ledger.missing(true), 1);
});

test('a change that was written after the subscription was accepted must come', () => {
  const ledger = subscribed();
  hear(ledger, 5, { sentAt: 130 });
  assert.equal(ledger.missing(false), 1);
});

test('what was written before the subscription need not have come', () => {
  const ledger = subscribed();
  hear(ledger, 5, { sentAt: 112 });
  hear(ledger, 6, { sentAt: 122 });
  assert.equal(ledger.missing(false), 0);
});

test('a version that does not grow is out of order, also when it comes to the next socket', () => {
  const ledger = subscribed();
  hear(ledger, 3);
  hear(ledger, 4, { version: 30 });
  assert.equal(ledger.disordered, 1);
  const next = new Ledger(ledger.versionsById);
  next.asked([ID], 300);
  hear(next, 5, { sentAt: 310, version: 29 });
  assert.equal(next.disordered, 1);
});

test('a subscription that is taken up again begins anew; what was under way does not begin it', () => {
  const ledger = subscribed();
  hear(ledger, 0, { sentAt: 115 });
  ledger.released([ID]);
  hear(ledger, 3, { sentAt: 140 });
  ledger.asked([ID], 500);
  hear(ledger, 4, { sentAt: 490 });
  ledger.accepted([ID], 510);
  hear(ledger, 20, { sentAt: 515 });
  hear(ledger, 21, { sentAt: 525, last: true });
  assert.deepEqual([ledger.received, ledger.missing(true), ledger.disordered], [5, 0, 0]);
});

test("somebody else's change counts, and has no time", () => {
  const ledger = subscribed();
  const product = { productId: ID, manufacturer: '', pricePerUnit: '', unitsAvailable: 1, productName: 'MacBook Pro' };
  assert.equal(ledger.change({ version: 1, product }), null);
  assert.equal(ledger.received, 1);
});

test('a reader that asks for states may be told of losses before its first change, but no gap is excused', () => {
  const ledger = new Ledger(new Map(), { asksStates: true });
  ledger.asked([ID], 100);
  hear(ledger, 3, { sentAt: 90 });
  ledger.skip(1);
  ledger.accepted([ID], 110);
  hear(ledger, 5, { sentAt: 120 });
  assert.equal(ledger.missing(false), 0);
  hear(ledger, 8);
  assert.equal(ledger.missing(false), 1);
});

test('a version that is not the one in the store is a difference, and of another epoch none counts', () => {
  const ledger = new Ledger();
  ledger.asked([ID, ID + 1, ID + 2], 100);
  hear(ledger, 3);
  assert.equal(ledger.differences(new Map([[ID, 30]])), 0);
  assert.equal(ledger.differences(new Map([[ID, 31], [ID + 1, 5], [ID + 3, 7]])), 2);
  ledger.forgetVersions();
  assert.equal(ledger.differences(new Map([[ID, 30]])), 1);
  hear(ledger, 2);
  assert.equal(ledger.disordered, 0);
});
