import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PRODUCTS } from '../../src/http/page/products.js';
import { PRODUCT_ID_MAX, Shelf } from '../../src/http/page/shelf.js';

const told = (key, version, isOwed = false) => ({ key, row: { productId: key, unitsAvailable: version }, version, isOwed });
const gone = (key) => ({ key, row: undefined, version: 9, isOwed: false });

function filled(...keys) {
  const changed = [];
  const shelf = new Shelf(PRODUCTS, (key, isNew) => changed.push([key, isNew]));
  for (const key of keys) shelf.take(told(key, 1));
  changed.length = 0;
  return { shelf, changed };
}

test('every row that became different is told, and whether it is new', () => {
  const { shelf, changed } = filled();
  for (const change of [told(1, 1), told(1, 2), gone(1), gone(1), gone(2)]) shelf.take(change);
  assert.deepEqual(changed, [[1, true], [1, false], [1, false]]);
});

test('a row is drawn with its version, and whether it is old', () => {
  const { shelf } = filled(1);
  shelf.take(told(1, 2, true));
  assert.deepEqual(shelf.get(1), { productId: 1, unitsAvailable: 2, version: 2, isOwed: true });
  assert.deepEqual([shelf.size, ...shelf.rows()], [1, shelf.get(1)]);
});

test('the next free id comes after the greatest, and before it when that is the last', () => {
  assert.equal(filled().shelf.nextFreeId(), 1);
  assert.equal(filled(1, 7).shelf.nextFreeId(), 8);
  assert.equal(filled(1, PRODUCT_ID_MAX).shelf.nextFreeId(), 2);
});
