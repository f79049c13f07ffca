import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PRODUCT_ID_MAX, ProductTable } from '../../src/http/page/products.js';

function product(productId, unitsAvailable = 1) {
  return { productId, manufacturer: 'm', pricePerUnit: '1EUR', unitsAvailable, productName: `p${productId}` };
}

function change(action, version, id, units) {
  return { action, version, product: product(id, units) };
}

function page(rows, next = null) {
  return { products: rows.map(([id, version, units]) => ({ ...product(id, units), version })), next };
}

function filled(...rows) {
  const table = new ProductTable();
  table.mergePage(page(rows), -1, new Map());
  return table;
}

test('a change is applied only when it is newer', () => {
  const table = filled([1, 5, 10]);
  table.apply(change('UPDATE', 4, 1, 99));
  table.apply(change('UPDATE', 5, 1, 98));
  assert.equal(table.get(1).unitsAvailable, 10);
  table.apply(change('UPDATE', 6, 1, 11));
  assert.deepEqual(table.get(1), { ...product(1, 11), version: 6 });
});

test('a list does not undo a change that came while it was on its way', () => {
  const table = filled([1, 5, 10]);
  const before = table.versions();
  table.apply(change('UPDATE', 7, 1, 12));
  table.apply(change('INSERT', 8, 2, 1));
  table.mergePage(page([[1, 5, 10]]), -1, before);
  assert.equal(table.get(1).unitsAvailable, 12);
  assert.equal(table.get(2).version, 8);
});

test('a deleted product does not return from an older list or change', () => {
  const table = filled([1, 5]);
  const before = table.versions();
  table.apply(change('DELETE', 6, 1));
  table.mergePage(page([[1, 5]]), -1, before);
  table.apply(change('UPDATE', 5, 1));
  assert.equal(table.size, 0);
  table.apply(change('INSERT', 7, 1, 3));
  assert.equal(table.get(1).unitsAvailable, 3);
});

test('a delete that overtook the first list is remembered', () => {
  const table = new ProductTable();
  table.apply(change('DELETE', 6, 1));
  table.mergePage(page([[1, 5]]), -1, new Map());
  assert.equal(table.size, 0);
});

test('a product that a later list lacks is gone, within what the list covers', () => {
  const table = filled([1, 1], [2, 2], [3, 3], [9, 4]);
  table.mergePage(page([[1, 1], [3, 3]], 3), -1, table.versions());
  assert.deepEqual(table.ids(), [1, 3, 9]);
  table.mergePage(page([]), 3, table.versions());
  assert.deepEqual(table.ids(), [1, 3]);
});

test('a change without its row asks for a read, unless it is old', () => {
  const table = filled([1, 5]);
  assert.equal(table.apply({ action: 'UPDATE', version: 6, product: { productId: 1 } }), false);
  assert.equal(table.get(1).version, 5);
  assert.equal(table.apply({ action: 'UPDATE', version: 5, product: { productId: 1 } }), true);
  assert.equal(table.apply({ action: 'DELETE', version: 7, product: { productId: 1 } }), true);
  assert.equal(table.size, 0);
});

test('products beyond the loaded pages are left to their page', () => {
  const table = filled([1, 1]);
  table.frontier = 200;
  table.apply(change('INSERT', 9, 201));
  table.apply(change('INSERT', 9, 200));
  assert.deepEqual(table.ids(), [1, 200]);
});

test('every row that became different is told, and whether a list told it', () => {
  const told = [];
  const table = new ProductTable((id, listed) => told.push([id, listed]));
  table.mergePage(page([[1, 1]]), -1, new Map());
  table.apply(change('UPDATE', 2, 1));
  table.apply(change('UPDATE', 2, 1));
  table.apply(change('DELETE', 3, 1));
  table.apply(change('DELETE', 4, 1));
  assert.deepEqual(told, [[1, true], [1, false], [1, false]]);
});

test('the next free id comes after the greatest, and before it when that is the last', () => {
  assert.equal(new ProductTable().nextFreeId(), 1);
  assert.equal(filled([1, 1], [7, 2]).nextFreeId(), 8);
  assert.equal(filled([1, 1], [PRODUCT_ID_MAX, 2]).nextFreeId(), 2);
});

// Whatever overtakes whatever, the table ends where the store ended.
test('lists and changes in any order end in the state of the store', () => {
  const random = generator(11);
  for (let round = 0; round < 300; round += 1) {
    const store = new Map();
    const table = new ProductTable();
    const waitingChanges = [];
    let waitingList = null;
    let version = 0;
    for (let step = 0; step < 60; step += 1) {
      const choice = random();
      if (choice < 0.4) waitingChanges.push(write(store, (version += 1), random));
      else if (choice < 0.8 && waitingChanges.length > 0) table.apply(waitingChanges.shift());
      else if (waitingList === null) waitingList = { before: table.versions(), rows: [...store.values()] };
      else {
        table.mergePage({ products: waitingList.rows, next: null }, -1, waitingList.before);
        waitingList = null;
      }
    }
    for (const waiting of waitingChanges) table.apply(waiting);
    table.mergePage({ products: [...store.values()], next: null }, -1, table.versions());
    const stored = [...store.values()].sort((a, b) => a.productId - b.productId);
    assert.deepEqual(table.ids().map((id) => table.get(id)), stored);
  }
});

function write(store, version, random) {
  const id = Math.floor(random() * 4);
  const exists = store.has(id);
  const action = !exists ? 'INSERT' : random() < 0.4 ? 'DELETE' : 'UPDATE';
  if (action === 'DELETE') store.delete(id);
  else store.set(id, { ...product(id, version), version });
  return change(action, version, id, version);
}

function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
