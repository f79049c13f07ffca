import assert from 'node:assert/strict';
import { test } from 'node:test';
import { subscribing } from '../pieces.js';
import { Replica } from '../replica.js';

function product(productId, unitsAvailable = 1) {
  return { productId, manufacturer: 'm', pricePerUnit: '1EUR', unitsAvailable, productName: `p${productId}` };
}

function change(action, version, id, units) {
  return { action, version, product: product(id, units) };
}

const alone = (action, version, productId) => ({ action, version, product: { productId } });

// A replica that knows rows `[id, version, units]`.
function filled(...rows) {
  const replica = new Replica('products');
  replica.enterEpoch('one');
  for (const [id, version, units] of rows) replica.apply(change('SNAPSHOT', version, id, units));
  return replica;
}

const keys = (replica) => Array.from(replica.entries(), ({ key }) => key).sort();
const units = (replica, id) => replica.get(String(id))?.row.unitsAvailable;

test('a change is applied only when it is newer', () => {
  const replica = filled([1, 5, 10]);
  assert.deepEqual(replica.apply(change('UPDATE', 4, 1, 99)), []);
  assert.deepEqual(replica.apply(change('UPDATE', 5, 1, 98)), []);
  assert.equal(units(replica, 1), 10);
  const [told] = replica.apply(change('UPDATE', 6, 1, 11));
  const [row, previous] = [product(1, 11), product(1, 10)];
  assert.deepEqual(told, { table: 'products', action: 'UPDATE', key: 1, row, version: 6, isOwed: false, previous });
  assert.deepEqual(replica.get('1'), { key: 1, row, version: 6, isOwed: false });
  assert.equal(replica.newest, 6);
});

test('rows of other tables are told by their keys', () => {
  const replica = new Replica('orders');
  replica.apply({ action: 'SNAPSHOT', version: 1, table: 'orders', key: 'a-9', row: { n: 1 } });
  replica.apply({ action: 'SNAPSHOT', version: 2, table: 'orders', key: 17, row: { n: 2 } });
  assert.deepEqual([replica.get('a-9').row, replica.get('17').key], [{ n: 1 }, 17]);
  const [gone] = replica.apply({ action: 'DELETE', version: 3, table: 'orders', key: 17, row: { n: 2 } });
  assert.deepEqual([gone.row, gone.previous, replica.version('17')], [undefined, { n: 2 }, 3]);
});

test('a deleted row does not return from an older change', () => {
  const replica = filled([1, 5]);
  replica.apply(change('DELETE', 6, 1));
  assert.deepEqual(replica.apply(change('UPDATE', 5, 1)), []);
  assert.deepEqual(keys(replica), []);
  replica.apply(change('INSERT', 7, 1, 3));
  assert.equal(units(replica, 1), 3);
});

test('a delete that comes before the row is remembered', () => {
  const replica = filled();
  assert.deepEqual(replica.apply(change('DELETE', 6, 1)), []);
  assert.deepEqual(replica.apply(change('SNAPSHOT', 5, 1)), []);
  assert.deepEqual([keys(replica), replica.newest], [[], 6]);
});

test('absent rows go, unless a newer row is known, and the version at which they went is kept', () => {
  const replica = filled([1, 5], [2, 6], [3, 7]);
  const gone = [[1, 9], [2, 5], [3], [4, 0]].flatMap(([id, version]) => replica.absent(id, version));
  assert.deepEqual(gone.map(({ key, version }) => [key, version]), [[1, 9], [3, 7]]);
  assert.deepEqual(keys(replica), [2]);
  replica.apply(change('UPDATE', 8, 1));
  replica.apply(change('UPDATE', 6, 3));
  assert.deepEqual(keys(replica), [2]);
  assert.equal(replica.newest, 9);
});

test('a row is taken again at the version at which it is missing', () => {
  const replica = filled([1, 5]);
  replica.absent(1, 0);
  replica.apply(change('INSERT', 5, 1));
  assert.deepEqual(keys(replica), [1]);
});

test('the version of a row that went without one is not claimed, and no older row is taken', () => {
  const replica = filled([1, 5]);
  for (const told of [[['ABSENT', 5]], []]) {
    assert.deepEqual(replica.absent(1).map(({ action, version }) => [action, version]), told);
    assert.deepEqual([subscribing(replica, [1]).versions, replica.version(1)], [[4], 5]);
  }
  assert.deepEqual(replica.apply(change('UPDATE', 4, 1)), []);
  replica.apply(change('SNAPSHOT', 5, 1));
  assert.deepEqual([keys(replica), subscribing(replica, [1]).versions], [[1], [5]]);
});

test('another epoch forgets versions, and keeps rows until they are told again', () => {
  const replica = filled([1, 500], [2, 600]);
  replica.apply(change('DELETE', 700, 3));
  assert.equal(replica.enterEpoch('one'), false);
  assert.equal(replica.newest, 700);
  assert.equal(replica.enterEpoch('two'), true);
  assert.deepEqual([replica.newest, ...['1', '3'].map((id) => replica.version(id))], [0, 0, 0]);
  assert.deepEqual(keys(replica), [1, 2]);
  replica.apply(change('UPDATE', 3, 1, 42));
  replica.apply(change('INSERT', 4, 3));
  replica.absent(2);
  assert.equal(units(replica, 1), 42);
  assert.deepEqual(keys(replica), [1, 3]);
});

test('a row of which only the key is told is owed until it, or what is newer, is there', () => {
  const replica = filled([1, 5, 10]);
  const [owed] = replica.apply(alone('UPDATE', 7, 1));
  assert.deepEqual([owed.isOwed, owed.row.unitsAvailable], [true, 10]);
  assert.deepEqual(replica.owed(), [1]);
  assert.deepEqual([replica.get('1').isOwed, replica.version('1')], [true, 5]);
  const read = (version, row) => replica.fill({ key: 1, version, row });
  assert.deepEqual(read(6, product(1, 11)), []);
  assert.deepEqual(read(7, undefined), []);
  assert.equal(read(7, product(1, 12))[0].action, 'UPDATE');
  assert.deepEqual([units(replica, 1), replica.get('1').isOwed, replica.owed()], [12, false, []]);
  assert.deepEqual(replica.apply(alone('UPDATE', 7, 1)), []);
  assert.deepEqual(replica.owed(), []);
});

test('what is owed is owed no more once it is gone, and what was read for nothing is not taken', () => {
  const replica = filled([1, 5]);
  assert.equal(replica.apply(alone('INSERT', 6, 2))[0].row, undefined);
  replica.apply(alone('UPDATE', 7, 1));
  replica.apply(change('DELETE', 8, 1));
  replica.absent(2);
  assert.deepEqual(replica.fill({ key: 1, version: 7, row: product(1) }), []);
  assert.deepEqual(replica.fill({ key: 2, version: 6, row: product(2) }), []);
  assert.deepEqual([replica.owed(), keys(replica)], [[], []]);
});

test('the rows that are gone are kept within bounds', () => {
  const replica = filled();
  const ids = Array.from({ length: 100_010 }, (_, id) => id);
  for (const id of ids) replica.apply(change('DELETE', id + 1, id));
  assert.deepEqual(ids.filter((id) => replica.version(String(id)) === 0), ids.slice(0, 10));
  assert.equal(replica.newest, 100_010);
});
