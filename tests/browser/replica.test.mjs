import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PRODUCT_ID_MAX, Replica } from '../../src/http/page/replica.js';

function product(productId, unitsAvailable = 1) {
  return { productId, manufacturer: 'm', pricePerUnit: '1EUR', unitsAvailable, productName: `p${productId}` };
}

function change(action, version, id, units) {
  return { action, version, product: product(id, units) };
}

const alone = (action, version, productId) => ({ action, version, product: { productId } });

// A replica that knows rows `[id, version, units]`, and what it tells from then on.
function filled(...rows) {
  const told = [];
  const replica = new Replica((id, isNew) => told.push([id, isNew]));
  replica.enterEpoch('one');
  replica.begin();
  for (const [id, version, units] of rows) replica.apply(change('SNAPSHOT', version, id, units));
  replica.complete();
  told.length = 0;
  return { replica, told };
}

function ids(replica) {
  return [...replica.rows()].map((row) => row.productId).sort((one, other) => one - other);
}

test('a change is applied only when it is newer', () => {
  const { replica } = filled([1, 5, 10]);
  replica.apply(change('UPDATE', 4, 1, 99));
  replica.apply(change('UPDATE', 5, 1, 98));
  assert.equal(replica.get(1).unitsAvailable, 10);
  replica.apply(change('UPDATE', 6, 1, 11));
  assert.equal(replica.get(1).unitsAvailable, 11);
  assert.equal(replica.get(1).version, 6);
  assert.equal(replica.newest, 6);
});

test('what is not named until a snapshot is complete is gone', () => {
  const { replica } = filled([1, 1], [2, 2], [3, 3]);
  replica.begin();
  replica.apply(change('SNAPSHOT', 1, 1));
  replica.apply(change('UPDATE', 5, 3));
  assert.deepEqual(ids(replica), [1, 2, 3]);
  replica.complete();
  assert.deepEqual(ids(replica), [1, 3]);
});

test('a row that is named again as it was is named', () => {
  const { replica, told } = filled([1, 7]);
  replica.begin();
  replica.apply(change('INSERT', 7, 1));
  replica.complete();
  assert.deepEqual(ids(replica), [1]);
  assert.deepEqual(told, []);
});

test('a snapshot that was broken off leaves all rows, and the next one counts anew', () => {
  const { replica } = filled([1, 1], [2, 2]);
  replica.begin();
  replica.apply(change('SNAPSHOT', 1, 1));
  replica.begin();
  replica.apply(change('SNAPSHOT', 2, 2));
  replica.complete();
  assert.deepEqual(ids(replica), [2]);
});

test('a deleted product does not return from an older change', () => {
  const { replica } = filled([1, 5]);
  replica.apply(change('DELETE', 6, 1));
  replica.apply(change('UPDATE', 5, 1));
  assert.equal(replica.size, 0);
  replica.apply(change('INSERT', 7, 1, 3));
  assert.equal(replica.get(1).unitsAvailable, 3);
});

test('a delete that comes before the row is remembered', () => {
  const { replica } = filled();
  replica.apply(change('DELETE', 6, 1));
  replica.apply(change('SNAPSHOT', 5, 1));
  assert.equal(replica.size, 0);
  assert.equal(replica.newest, 6);
});

test('absent products go, unless a newer row is known, and the version at which they went is kept', () => {
  const { replica } = filled([1, 5], [2, 6], [3, 7]);
  replica.absent([1, 2, 3, 4], [9, 5, 0, 0]);
  assert.deepEqual(ids(replica), [2]);
  replica.apply(change('UPDATE', 8, 1));
  replica.apply(change('UPDATE', 6, 3));
  assert.deepEqual(ids(replica), [2]);
  assert.equal(replica.newest, 9);
});

test('a row is taken again at the version at which it is missing', () => {
  const { replica } = filled([1, 5]);
  replica.absent([1], [0]);
  replica.apply(change('INSERT', 5, 1));
  assert.deepEqual(ids(replica), [1]);
});

test('another epoch forgets versions, and keeps rows until they are told again', () => {
  const { replica } = filled([1, 500], [2, 600]);
  replica.apply(change('DELETE', 700, 3));
  assert.equal(replica.enterEpoch('one'), false);
  assert.equal(replica.newest, 700);
  replica.enterEpoch('two');
  assert.equal(replica.newest, 0);
  assert.deepEqual(ids(replica), [1, 2]);
  replica.apply(change('UPDATE', 3, 1, 42));
  replica.apply(change('INSERT', 4, 3));
  replica.absent([2], [0]);
  assert.equal(replica.get(1).unitsAvailable, 42);
  assert.deepEqual(ids(replica), [1, 3]);
});

test('an epoch says if something may have been named in another one', () => {
  const replica = new Replica();
  replica.begin();
  assert.equal(replica.enterEpoch('one'), false);
  replica.apply(change('SNAPSHOT', 1, 1));
  assert.equal(replica.enterEpoch('two'), true);
  replica.complete();
  assert.equal(replica.enterEpoch('three'), true);
});

test('a row of which only the id is told is owed until it, or what is newer, is there', () => {
  const { replica, told } = filled([1, 5, 10]);
  replica.apply(alone('UPDATE', 7, 1));
  assert.deepEqual(replica.owed(), [1]);
  assert.equal(replica.get(1).isOwed, true);
  assert.equal(replica.get(1).version, 5);
  replica.fill({ version: 6, product: product(1, 11) });
  assert.equal(replica.get(1).unitsAvailable, 10);
  replica.fill({ version: 7, product: product(1, 12) });
  assert.equal(replica.get(1).unitsAvailable, 12);
  assert.equal(replica.get(1).isOwed, false);
  assert.equal(replica.isOwing, false);
  replica.apply(alone('UPDATE', 7, 1));
  assert.equal(replica.isOwing, false);
  assert.deepEqual(told, [[1, false], [1, false]]);
});

test('what is owed is owed no more once it is gone, and what was read for nothing is not taken', () => {
  const { replica } = filled([1, 5]);
  replica.apply(alone('INSERT', 6, 2));
  replica.apply(alone('UPDATE', 7, 1));
  replica.apply(change('DELETE', 8, 1));
  replica.absent([2], [0]);
  replica.fill({ version: 7, product: product(1) });
  replica.fill({ version: 6, product: product(2) });
  assert.equal(replica.isOwing, false);
  assert.equal(replica.size, 0);
});

test('every row that became different is told, and whether it is new', () => {
  const { replica, told } = filled();
  replica.apply(change('INSERT', 1, 1));
  replica.apply(change('UPDATE', 2, 1));
  replica.apply(change('UPDATE', 2, 1));
  replica.apply(change('DELETE', 3, 1));
  replica.apply(change('DELETE', 4, 1));
  assert.deepEqual(told, [[1, true], [1, false], [1, false]]);
});

test('the next free id comes after the greatest, and before it when that is the last', () => {
  assert.equal(filled().replica.nextFreeId(), 1);
  assert.equal(filled([1, 1], [7, 2]).replica.nextFreeId(), 8);
  assert.equal(filled([1, 1], [PRODUCT_ID_MAX, 2]).replica.nextFreeId(), 2);
});
