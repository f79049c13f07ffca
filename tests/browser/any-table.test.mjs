import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnyTable, tableNamed } from '../../src/http/page/any-table.js';
import { Columns, membersMax } from '../../src/http/page/columns.js';
import { CommandRefused } from '../../src/http/page/connection.js';
import { Follower } from '../../src/http/page/follower.js';
import { Order } from '../../src/http/page/order.js';
import { Replica } from '../../src/http/page/replica.js';
import { Exact, parseExactly, textOf } from '../../src/http/page/values.js';

const ORDERS = new AnyTable('orders');

function told(action, version, key, row) {
  return { action, version, table: 'orders', key, row };
}

function filled(...rows) {
  const replica = new Replica(() => {}, ORDERS);
  for (const [place, [key, row]] of rows.entries()) replica.apply(told('SNAPSHOT', place + 1, key, row));
  return replica;
}

function ordered(replica) {
  const order = new Order(ORDERS);
  order.update(Array.from(replica.rows(), (row) => row.id), (id) => replica.get(id));
  return order;
}

function ids(order) {
  return Array.from({ length: order.length }, (_, place) => order.at(place).id);
}

function columnsOf(replica, most = 12) {
  const columns = new Columns();
  for (const row of replica.rows()) columns.changed(row.id, row);
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

test('rows are told apart by their keys, numbers and texts', () => {
  const replica = filled([17, { n: 1 }], ['17', { n: 2 }], ['a-9', { n: 3 }]);
  replica.apply(told('UPDATE', 9, 17, { n: 4 }));
  replica.apply(told('DELETE', 10, 'a-9', { n: 3 }));
  assert.deepEqual(replica.get(17), { id: 17, fields: { n: 4 }, version: 9, isOwed: false });
  assert.deepEqual(replica.get('17').fields, { n: 2 });
  replica.absent(['17'], [0]);
  assert.equal(replica.size, 1);
});

test('a row of which only the key is told is read', () => {
  const replica = filled([17, { n: 1 }]);
  replica.apply(told('UPDATE', 5, 17));
  assert.deepEqual(replica.owed(), [17]);
  assert.deepEqual(replica.get(17).fields, { n: 1 });
  replica.fill({ key: 17, version: 5 });
  assert.deepEqual(replica.owed(), [17], 'what was read is no row');
  replica.fill({ key: 17, version: 5, row: { n: 2 } });
  assert.deepEqual([replica.get(17).fields, replica.isOwing], [{ n: 2 }, false]);
});

test('products are understood where they are asked for like any other table', () => {
  const product = { productId: 7, productName: 'Lamp', unitsAvailable: 3 };
  const replica = new Replica(() => {}, new AnyTable('products'));
  replica.apply({ action: 'SNAPSHOT', version: 1, product });
  replica.apply({ action: 'UPDATE', version: 2, product: { productId: 8 } });
  assert.deepEqual([replica.get(7).fields, replica.owed()], [product, [8]]);
});

test('it subscribes to the table, and says why it cannot', async () => {
  const [commands, refusals, states] = [[], [], []];
  let answer;
  const connection = {
    request: (command) => {
      commands.push(command);
      return new Promise((resolve, reject) => (answer = { resolve, reject }));
    },
    become: (state) => states.push(state),
    abandon: () => {},
  };
  const on = { change: () => {}, skipped: () => {}, complete: () => {}, refused: (...why) => refusals.push(why) };
  const platform = { setTimeout: () => {}, clearTimeout: () => {}, now: () => 0 };
  const options = { subscription: ORDERS.subscription, platform };
  const follower = new Follower(connection, new Replica(() => {}, ORDERS), on, options);
  follower.opened();
  assert.deepEqual(commands, [{ command: 'subscribe', table: 'orders', keys: '*', snapshot: true }]);
  answer.reject(new CommandRefused('there is no table orders', 'unknown_table'));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(refusals, [['there is no table orders', 'unknown_table']]);
  assert.equal(states.at(-1), 'refused');

  follower.closed();
  follower.opened();
  answer.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  // A table that has lost its key is not live, whatever the source is.
  const after = (frame) => {
    follower.take(frame);
    return states.at(-1);
  };
  assert.equal(after({ live: false, table: 'orders' }), 'stale');
  assert.equal(after({ live: false }), 'stale');
  assert.equal(after({ live: true }), 'stale');
  assert.equal(after({ live: true, table: 'orders' }), 'live');
  // It is said anew on each connection.
  after({ live: false, table: 'orders' });
  follower.closed();
  follower.opened();
  answer.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(states.at(-1), 'live');
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
  const replica = filled(...keys.map((key) => [key, { same: 1 }]));
  const order = ordered(replica);
  assert.deepEqual(ids(order), [9, 10, '9', 'A9', 'a9', 'a10', 'b']);
  order.sortBy('member:same', true);
  for (const key of keys) assert.equal(order.at(order.indexOf(key)).id, key);
});

test('a search looks into keys and all values', () => {
  const rows = [['ord-17', { to: 'Zoë', lines: [{ sku: 'KT-5' }] }], [18, { to: 'Jan', n: new Exact('1.50') }]];
  const replica = filled(...rows);
  const order = ordered(replica);
  const found = (text) => {
    order.search(text, replica.rows());
    return ids(order);
  };
  assert.deepEqual(found('zoe kt-5'), ['ord-17']);
  assert.deepEqual(found('18'), [18]);
  assert.deepEqual(found('1.50'), [18]);
  assert.deepEqual(found('zoe jan'), []);
  assert.deepEqual(found(' '), [18, 'ord-17']);
  // A row that changed is looked into anew.
  replica.apply(told('UPDATE', 9, 18, { to: 'Zoe' }));
  assert.deepEqual(found('zoe'), [18, 'ord-17']);
});
