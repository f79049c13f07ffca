import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandRefused } from '../../src/http/page/connection.js';
import { ProductTable } from '../../src/http/page/products.js';
import { commandChunks, missingIds } from '../../src/http/page/subscriptions.js';
import { Sync } from '../../src/http/page/sync.js';

const PAGE_PRODUCTS = 200;

// A server in miniature: it casts to the ids that are subscribed, and lists in pages.
class Miniature {
  rowsById = new Map();
  subscribed = new Set();
  commands = [];
  version = 0;
  beforeList = () => {};

  constructor(table) {
    this.table = table;
  }

  async request({ productIDs }) {
    this.commands.push(productIDs);
    for (const id of productIDs) this.subscribed.add(id);
  }

  list = async (after) => {
    const above = [...this.rowsById.values()].filter((row) => row.productId > (after ?? -1));
    const products = above.sort((a, b) => a.productId - b.productId).slice(0, PAGE_PRODUCTS);
    const next = above.length > PAGE_PRODUCTS ? products.at(-1).productId : null;
    this.beforeList(after);
    return { products, next };
  };

  put(productId) {
    const action = this.rowsById.has(productId) ? 'UPDATE' : 'INSERT';
    const product = { productId, productName: 'n', manufacturer: 'm', pricePerUnit: '1', unitsAvailable: 1 };
    this.rowsById.set(productId, { ...product, version: (this.version += 1) });
    if (this.subscribed.has(productId)) this.table.apply({ action, version: this.version, product });
  }
}

function setUp(count) {
  const table = new ProductTable();
  const server = new Miniature(table);
  for (let id = 1; id <= count; id += 1) server.put(id);
  const refused = [];
  return { table, server, refused, sync: new Sync(table, server, server.list, (text) => refused.push(text)) };
}

function assertCurrent(table, server) {
  assert.deepEqual(table.ids().map((id) => table.get(id)), [...server.rowsById.values()]);
}

test('what is shown is subscribed, and the free ids before it and 64 after it', async () => {
  const { table, server, sync } = setUp(10);
  await sync.catchUp();
  assertCurrent(table, server);
  for (let id = 0; id <= 74; id += 1) assert.ok(server.subscribed.has(id), `${id} is not subscribed`);
  assert.ok(!server.subscribed.has(75));
});

test('a change between the subscription and the list, and one after the list was read, are both shown', async () => {
  const { table, server, sync } = setUp(100);
  server.beforeList = () => server.put(100);
  await sync.catchUp();
  assertCurrent(table, server);
});

test('the window follows the greatest id, without a command for each', async () => {
  const { table, server, sync } = setUp(1);
  await sync.catchUp();
  const before = server.commands.length;
  for (let id = 2; id <= 40; id += 1) {
    server.put(id);
    await sync.tableGrew();
  }
  assertCurrent(table, server);
  assert.ok(server.commands.length - before <= 2);
  assert.ok(server.subscribed.has(72));
});

test('pages load one by one, and are all listed again', async () => {
  const { table, server, sync } = setUp(450);
  await sync.catchUp();
  assert.equal(table.size, 200);
  assert.equal(table.frontier, 200);
  await sync.loadMore();
  assert.equal(table.size, 400);
  await sync.loadMore();
  assert.equal(table.frontier, Infinity);
  assertCurrent(table, server);
  server.rowsById.delete(430);
  await new Sync(table, server, server.list, () => {}).catchUp();
  assertCurrent(table, server);
});

test('a product that appears in a loaded page while its list is on its way is shown', async () => {
  const { table, server, sync } = setUp(450);
  await sync.catchUp();
  await sync.loadMore();
  server.rowsById.delete(350);
  await sync.catchUp();
  server.beforeList = (after) => after === 200 && server.put(350);
  await sync.catchUp();
  assert.ok(table.get(350));
});

test('a refused subscription is told once, and the list is shown all the same', async () => {
  const { table, server, sync, refused } = setUp(3);
  server.request = () => Promise.reject(new CommandRefused('at most 2 products'));
  await sync.catchUp();
  assertCurrent(table, server);
  const told = refused.length;
  await sync.catchUp();
  assert.equal(refused.length, told);
  assert.equal(refused[0], 'at most 2 products');
});

test('a command has at most a thousand ids, and none is left out', () => {
  const ids = Array.from({ length: 2500 }, (_, i) => i);
  const chunks = commandChunks(ids);
  assert.deepEqual(chunks.map((chunk) => chunk.length), [1000, 1000, 500]);
  assert.deepEqual(chunks.flat(), ids);
  assert.deepEqual(commandChunks([]), []);
});

test('the window ends at the greatest id there is', () => {
  const table = new ProductTable();
  const row = { productName: 'n', manufacturer: 'm', pricePerUnit: '1', unitsAvailable: 1 };
  table.put({ ...row, productId: Number.MAX_SAFE_INTEGER - 1 }, 1);
  const missing = missingIds(table, new Set());
  assert.deepEqual(missing.filter((id) => id > 63), [Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER]);
  assert.deepEqual(missingIds(table, new Set(missing)), []);
});
