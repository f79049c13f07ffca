import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Order } from '../../src/http/page/order.js';
import { matcher } from '../../src/http/page/search.js';
import { comparison, valueOf } from '../../src/http/page/sorting.js';

const NAMES = ['Kettle', 'desk lamp', 'Desk Lamp 10', 'Desk Lamp 9', 'Éclair', 'Chair', 'chair 42'];

function row(productId, fields = {}) {
  const rest = { manufacturer: 'm', pricePerUnit: '1EUR', unitsAvailable: 1, version: 1 };
  return { productId, productName: `p${productId}`, ...rest, ...fields };
}

function ordered(rows) {
  const order = new Order();
  const rowsById = new Map(rows.map((each) => [each.productId, each]));
  order.update(rowsById.keys(), (id) => rowsById.get(id));
  return { order, rowsById };
}

function ids(order) {
  return Array.from({ length: order.length }, (_, place) => order.at(place).productId);
}

test('rows are in the order of their ids, until they are sorted by something else', () => {
  const units = [[10, 2], [9, 3], [2, 2]];
  const { order } = ordered(units.map(([id, unitsAvailable]) => row(id, { unitsAvailable })));
  assert.deepEqual(ids(order), [2, 9, 10]);
  order.sortBy('unitsAvailable', false);
  assert.deepEqual(ids(order), [2, 10, 9]);
  order.sortBy('unitsAvailable', true);
  assert.deepEqual(ids(order), [9, 2, 10]);
});

test('names are sorted without regard to case and accents, and their numbers as numbers', () => {
  const { order } = ordered(NAMES.map((productName, i) => row(i, { productName })));
  order.sortBy('productName', false);
  assert.deepEqual(ids(order).map((id) => NAMES[id]), [
    'Chair', 'chair 42', 'desk lamp', 'Desk Lamp 9', 'Desk Lamp 10', 'Éclair', 'Kettle',
  ]);
});

test('prices are sorted by their amounts, and those without one come last', () => {
  const prices = [
    '1,499.50 €', '500EUR', '1.499,40 €', 'on request', '74,50EUR', '9.99EUR', 'EUR 20', '1,200EUR', '', '1,000,000',
  ];
  const { order } = ordered(prices.map((pricePerUnit, i) => row(i, { pricePerUnit })));
  order.sortBy('pricePerUnit', false);
  assert.deepEqual(ids(order).map((id) => prices[id]), [
    '9.99EUR', 'EUR 20', '74,50EUR', '500EUR', '1,200EUR', '1.499,40 €', '1,499.50 €', '1,000,000',
    'on request', '',
  ]);
});

test('a search finds words of the name in any case, and the beginning of an id', () => {
  const found = (text, rows) => rows.filter(matcher(text)).map((each) => each.productId);
  const rows = NAMES.map((productName, i) => row(40 + i, { productName }));
  assert.deepEqual(found('', rows), [40, 41, 42, 43, 44, 45, 46]);
  assert.deepEqual(found('  LAMP desk ', rows), [41, 42, 43]);
  assert.deepEqual(found('eclair', rows), [44]);
  assert.deepEqual(found('ÉCL', rows), [44]);
  assert.deepEqual(found('42', rows), [42, 46]);
  assert.deepEqual(found('lamp 42', rows), [42]);
  assert.deepEqual(found('2', rows), [46]);
  assert.deepEqual(found('(', rows), []);
});

test('a row that begins or ceases to match comes and goes', () => {
  const { order, rowsById } = ordered([row(1, { productName: 'Chair' }), row(2, { productName: 'Lamp' })]);
  order.search('lamp', rowsById.values());
  assert.deepEqual(ids(order), [2]);
  assert.equal(order.indexOf(1), -1);
  rowsById.set(1, row(1, { productName: 'Lamp' }));
  rowsById.set(2, row(2, { productName: 'Chair' }));
  order.update([1, 2], (id) => rowsById.get(id));
  assert.deepEqual(ids(order), [1]);
  order.search('', rowsById.values());
  assert.deepEqual(ids(order), [1, 2]);
});

// However the rows change, the order is that of sorting what matches from the beginning.
test('in any history the order is that of all rows sorted', () => {
  const random = generator(5);
  const below = (end) => Math.floor(random() * end);
  const columns = ['productId', 'productName', 'manufacturer', 'pricePerUnit', 'unitsAvailable', 'version'];
  for (let round = 0; round < 100; round += 1) {
    const { order, rowsById } = ordered([]);
    let [column, isDescending, text] = ['productId', false, ''];
    for (let step = 0; step < 30; step += 1) {
      const ids = Array.from({ length: below(12) }, () => below(20));
      for (const id of ids) {
        const texts = { productName: NAMES[below(NAMES.length)], pricePerUnit: `${below(9)}EUR` };
        const fields = { ...texts, unitsAvailable: below(4), version: below(100) };
        if (random() < 0.3) rowsById.delete(id);
        else rowsById.set(id, row(id, fields));
      }
      order.update(new Set(ids), (id) => rowsById.get(id));
      const choice = random();
      if (choice < 0.2) order.sortBy((column = columns[below(columns.length)]), (isDescending = random() < 0.5));
      else if (choice < 0.4) order.search((text = ['', 'lamp', 'desk 1', '4', 'nothing'][below(5)]), rowsById.values());
      assertSorted(order, rowsById, column, isDescending, text);
    }
  }
});

function assertSorted(order, rowsById, column, isDescending, text) {
  const value = valueOf(column);
  const compare = comparison(column, isDescending);
  const entry = (each) => ({ id: each.productId, value: value(each) });
  const expected = [...rowsById.values()].filter(matcher(text)).sort((one, other) => compare(entry(one), entry(other)));
  assert.deepEqual(Array.from({ length: order.length }, (_, place) => order.at(place)), expected);
  for (const id of rowsById.keys()) {
    assert.equal(order.indexOf(id), expected.findIndex((each) => each.productId === id));
  }
}

function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
