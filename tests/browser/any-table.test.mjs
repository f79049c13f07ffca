import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnyTable, tableNamed } from '../../src/http/page/any-table.js';
import { Columns, membersMax } from '../../src/http/page/columns.js';
import { Order } from '../../src/http/page/order.js';
import { Shelf } from '../../src/http/page/shelf.js';
import { Exact, parseExactly, textOf } from '../../src/http/page/values.js';

const ORDERS = new AnyTable('orders');

function told(version, key, row) {
  return { key, row, version, isOwed: false };
}

function filled(...rows) {
  const shelf = new Shelf(ORDERS);
  for (const [place, [key, row]] of rows.entries()) shelf.take(told(place + 1, key, row));
  return shelf;
}

function ordered(shelf) {
  const order = new Order(ORDERS);
  order.update(Array.from(shelf.rows(), (row) => row.id), (id) => shelf.get(id));
  return order;
}

function ids(order) {
  return Array.from({ length: order.length }, (_, place) => order.at(place).id);
}

function columnsOf(shelf, most = 12) {
  const columns = new Columns();
  for (const row of shelf.rows()) columns.changed(row.id, row);
  const { columns: shown, left } = columns.shown(most);
  return { heads: shown.map(({ head }) => head), left, shown, columns };
}

test('the address names the table', () => {
  assert.equal(tableNamed(''), null);
  assert.equal(tableNamed('?token=1'), null);
  assert.equal(tableNamed('?table=shop.orders'), 'shop.orders');
  assert.equal(tableNamed('?table=a%26b%20%C3%A9'), 'a&b é');
  assert.equal(tableNamed('?table='), '');
});

test('a row is drawn by its key, with its fields apart', () => {
  const shelf = filled([17, { n: 1 }], ['a-9', { n: 3 }]);
  shelf.take({ ...told(9, 17, { n: 4 }), isOwed: true });
  shelf.take(told(10, 'a-9', undefined));
  assert.deepEqual([...shelf.rows()], [{ id: 17, fields: { n: 4 }, version: 9, isOwed: true }]);
});

test('columns are the members of the rows, in the order in which they came', () => {
  const { heads, columns } = columnsOf(filled([17, { a: 1, b: 2 }], [18, { c: 3, a: null }]));
  assert.deepEqual(heads, ['Key', 'a', 'b', 'c', 'Version']);
  columns.changed(17, { id: 17, fields: { c: 1 } });
  assert.deepEqual(columns.shown(12).columns.map(({ head }) => head), ['Key', 'a', 'c', 'Version']);
  columns.changed(18, undefined);
  assert.deepEqual(columns.shown(12).columns.map(({ head }) => head), ['Key', 'c', 'Version']);
  columns.changed(17, undefined);
  assert.deepEqual(columns.shown(12).columns.map(({ head }) => head), ['Key', 'Version']);
});

test('a member that repeats the key gives its column the name, as long as every row does so', () => {
  const { heads, columns } = columnsOf(filled([17, { n: 1, no: 17 }], ['a-9', { n: 2, no: 'a-9' }]));
  assert.deepEqual(heads, ['no', 'n', 'Version']);
  columns.changed(18, { id: 18, fields: { n: 3 } });
  assert.deepEqual(columns.shown(12).columns.map(({ head }) => head), ['Key', 'n', 'no', 'Version']);
  const big = filled(['9007199254740993', { no: new Exact('9007199254740993') }]);
  assert.deepEqual(columnsOf(big).heads, ['no', 'Version']);
});

test('columns are bounded, and those that are left are named', () => {
  const fields = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`c${i}`, i]));
  const { heads, left } = columnsOf(filled(['x', fields]), 3);
  assert.deepEqual([heads, left.length, left[0]], [['Key', 'c0', 'c1', 'c2', 'Version'], 27, 'c3']);
  assert.deepEqual([320, 701, 1280, 10_000].map(membersMax), [12, 4, 10, 12]);
});

test('a column is of numbers if all its values are', () => {
  const rows = [[1, { a: 1, b: 1, c: null }], [2, { a: new Exact('1.50'), b: 'x', c: null }], [3, { a: null }]];
  const { shown } = columnsOf(filled(...rows));
  assert.deepEqual(shown.map(({ isNumber }) => isNumber), [false, true, false, false, true]);
});

test('a member that a row does not have is missing, whatever its name', () => {
  const { shown } = columnsOf(filled([1, JSON.parse('{"constructor":1,"__proto__":2}')], [2, { a: 0 }]));
  const texts = shown.slice(1, -1).map(({ value }) => textOf(value({ id: 2, fields: { a: 0 } })));
  assert.deepEqual(texts, ['—', '—', '0']);
  const order = ordered(filled([1, { a: 1 }], [2, {}]));
  order.sortBy('member:constructor', false);
  assert.deepEqual(ids(order), [1, 2]);
});

test('values are shown as they come', () => {
  for (const [value, text] of [
    ['', ''], ['a\nb', 'a\nb'], [0, '0'], [true, 'true'], [null, 'null'], [undefined, '—'],
    [[1, { x: [] }], '[1,{"x":[]}]'], [{}, '{}'], [new Exact('1.50'), '1.50'],
  ]) {
    assert.equal(textOf(value), text);
  }
  assert.equal(textOf('x'.repeat(5000)).length, 1001);
  assert.equal(textOf(parseExactly('{"a":[1,"b"]}')), '{"a":[1,"b"]}');
});

test('rows are sorted by the values of a column, and those without one come last in both directions', () => {
  const values = [[1, 'b'], [2, 10], [3, null], [4, new Exact('9.50')], [5, 'B2'], [6, true], [7, 'B10'], [8, undefined]];
  const order = ordered(filled(...values.map(([key, value]) => [key, value === undefined ? {} : { v: value }])));
  order.sortBy('member:v', false);
  assert.deepEqual(ids(order), [4, 2, 1, 5, 7, 6, 3, 8]);
  order.sortBy('member:v', true);
  assert.deepEqual(ids(order), [6, 7, 5, 1, 2, 4, 3, 8]);
});

test('keys are in order, and each has a place of its own', () => {
  const keys = ['b', 10, 'a10', 9, 'a9', 'A9', '9'];
  const shelf = filled(...keys.map((key) => [key, { same: 1 }]));
  const order = ordered(shelf);
  assert.deepEqual(ids(order), [9, 10, '9', 'A9', 'a9', 'a10', 'b']);
  order.sortBy('member:same', true);
  for (const key of keys) assert.equal(order.at(order.indexOf(key)).id, key);
});

test('a search looks into keys and all values', () => {
  const rows = [['ord-17', { to: 'Zoë', lines: [{ sku: 'KT-5' }] }], [18, { to: 'Jan', n: new Exact('1.50') }]];
  const shelf = filled(...rows);
  const order = ordered(shelf);
  const found = (text) => {
    order.search(text, shelf.rows());
    return ids(order);
  };
  assert.deepEqual(found('zoe kt-5'), ['ord-17']);
  assert.deepEqual(found('18'), [18]);
  assert.deepEqual(found('1.50'), [18]);
  assert.deepEqual(found('zoe jan'), []);
  assert.deepEqual(found(' '), [18, 'ord-17']);
  // A row that changed is looked into anew.
  shelf.take(told(9, 18, { to: 'Zoe' }));
  assert.deepEqual(found('zoe'), [18, 'ord-17']);
});
