// Against a real server: what the protocol says, as the client does it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { client, follow, put, Server, tokenOf, until, Way } from './support.mjs';

const GRANT = { tables: { orders: { read: '*', write: true }, notes: { read: '*', write: true } } };

test('rows of a table are followed, from before there are any', async (t) => {
  const server = await Server.start(t);
  await put(server, 17, { state: 'placed' });
  const its = client(t, server.url);
  const [one, all] = [follow(its, { table: 'orders', keys: ['17', 'a-9'] }), follow(its, { table: 'orders', keys: '*' })];
  assert.equal((await one.next('complete')), 'complete');
  await all.next('complete');
  assert.equal(its.state, 'live');
  assert.deepEqual(its.get('orders', 17), { state: 'placed' });
  await put(server, 'a-9', { state: 'paid' });
  assert.deepEqual((await one.next(({ key }) => key === 'a-9')).row, { state: 'paid' });
  await server.send('DELETE', '/tables/orders/17');
  const gone = await one.next(({ action }) => action === 'DELETE');
  assert.deepEqual([gone.key, gone.row, gone.previous], [17, undefined, { state: 'placed' }]);
  await put(server, 18, { state: 'new' });
  await all.next(({ key }) => key === 18);
  assert.deepEqual(Array.from(its.rows('orders'), ({ key }) => key).sort(), [18, 'a-9']);
  // The end of everything leaves what is followed by its key.
  all.end();
  await put(server, 19, { state: 'new' });
  await put(server, 'a-9', { state: 'sent' });
  await one.next(({ row }) => row?.state === 'sent');
  await until(its, () => its.get('orders', 18) === undefined);
  assert.equal(its.get('orders', 19), undefined);
});

test('a product is followed by its id, or by the text of that', async (t) => {
  const server = await Server.start(t);
  const product = { productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };
  for (const productId of [3, 4]) await server.add({ productId, ...product });
  const its = client(t, server.url);
  const [text, id] = [{ table: 'products', keys: ['3'] }, [4]].map((what) => follow(its, what));
  for (const each of [text, id]) await each.next('complete');
  await server.patch(3, { unitsAvailable: 6 });
  assert.deepEqual((await text.next(({ action }) => action === 'UPDATE')).row.unitsAvailable, 6);
  assert.deepEqual([its.get('products', '3').unitsAvailable, its.get('products', 4).unitsAvailable], [6, 5]);
});

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`after ${signal} it is back, with what changed meanwhile`, async (t) => {
    const server = await Server.start(t);
    for (const key of [1, 2, 3]) await put(server, key, { n: key });
    const its = client(t, server.url);
    const some = follow(its, { table: 'orders', keys: [1, 2] });
    await some.next('complete');
    await server.stop(signal);
    await until(its, () => its.state === 'stale');
    assert.deepEqual(its.get('orders', 1), { n: 1 });
    await server.start();
    await put(server, 1, { n: 10 });
    await server.send('DELETE', '/tables/orders/2');
    await some.next(({ row }) => row?.n === 10);
    await some.next(({ key, row }) => key === 2 && !row);
    await until(its, () => its.state === 'live');
    assert.equal(its.get('orders', 2), undefined);
  });
}

test('a token is asked for anew when it has expired, and no row is lost', async (t) => {
  const grant = { read: '*', write: true, tables: { orders: { read: '*', write: true } } };
  const server = await Server.guarded(t, grant);
  await put(server, 1, { n: 1 });
  let asked = 0;
  const renewed = new Promise((resolve) => {
    const token = async () => {
      if ((asked += 1) === 2) resolve();
      return tokenOf(grant, asked === 1 ? 2 : 3600);
    };
    t.its = client(t, server.url, { token });
  });
  const some = follow(t.its, { table: 'orders', keys: [1] });
  await some.next('complete');
  await renewed;
  await put(server, 1, { n: 2 });
  await some.next(({ row }) => row?.n === 2);
  await until(t.its, () => t.its.state === 'live');
  assert.equal(asked, 2);
});

test('what a token does not grant is refused, and the rest is followed', async (t) => {
  const server = await Server.guarded(t, { read: '*', write: true, tables: { orders: { read: '*', write: true } } });
  for (const key of [1, 2]) await put(server, key, { n: key });
  const its = client(t, server.url, { token: tokenOf({ tables: { orders: { read: [1] } } }) });
  const some = follow(its, { table: 'orders', keys: [1, 2] });
  await some.next('forbidden');
  await some.next('complete');
  assert.deepEqual([its.get('orders', 1), its.get('orders', 2), its.state], [{ n: 1 }, undefined, 'live']);
});

test('rows that the token of another connection does not grant are gone, however many', async (t) => {
  const server = await Server.guarded(t, GRANT);
  const way = await Way.start(t, server);
  const keys = Array.from({ length: 30 }, (_, number) => number);
  for (const key of keys) await put(server, key, { n: key });
  const its = client(t, way.url, { token: tokenOf({ tables: { orders: { read: '*' } } }) });
  const some = follow(its, { table: 'orders', keys });
  await some.next('complete');
  const known = () => Array.from(its.rows('orders'), ({ key }) => key).sort();
  assert.equal(known().length, 30);
  const shown = [];
  its.on('state', (state) => state === 'live' && shown.push(known()));
  way.cut();
  await until(its, () => its.phase === 'waiting');
  its.token = tokenOf({ tables: { orders: { read: [0, 1, 2, 3, 4] } } });
  await some.next('forbidden');
  await until(its, () => its.state === 'live');
  assert.deepEqual([shown, way.count('/websocket')], [[[0, 1, 2, 3, 4]], 2]);
});

test('a bad key and a missing table disturb nobody else', async (t) => {
  const server = await Server.start(t);
  await put(server, 1, { n: 1 });
  const its = client(t, server.url);
  const [bad, good, missing] = [[-5, 1], [1, 2]].map((keys) => follow(its, { table: 'orders', keys }))
    .concat(follow(its, { table: 'nothing', keys: [1] }));
  await bad.next('bad_keys');
  await missing.next('unknown_table');
  await good.next('complete');
  assert.deepEqual([its.get('orders', 1), its.state], [{ n: 1 }, 'live']);
});

test('twenty thousand keys are followed, in pieces', async (t) => {
  const server = await Server.start(t);
  await put(server, 'key 19999', { n: 1 });
  const its = client(t, server.url);
  const keys = Array.from({ length: 20_000 }, (_, number) => `key ${number}`);
  const all = follow(its, { table: 'orders', keys });
  await all.next('complete');
  assert.deepEqual(its.get('orders', 'key 19999'), { n: 1 });
  await put(server, 'key 0', { n: 2 });
  await all.next(({ key }) => key === 'key 0');
});

test('a row of which only the key came is read', async (t) => {
  const server = await Server.guarded(t, { tables: { orders: { read: '*', write: true } } });
  await put(server, '../x', { n: 1 });
  // As if its rows were too large for messages.
  const parse = (text) => JSON.parse(text, (name, value) => (value?.action ? { ...value, row: undefined } : value));
  const its = client(t, server.url, { parse, token: tokenOf({ tables: { orders: { read: '*' } } }) });
  const some = follow(its, { table: 'orders', keys: ['../x'] });
  assert.deepEqual((await some.next(({ row }) => row)).row, { n: 1 });
  await put(server, '../x', { n: 2 });
  const old = await some.next(({ action }) => action === 'UPDATE');
  assert.deepEqual([old.row, old.isOwed], [{ n: 1 }, true]);
  assert.deepEqual((await some.next(({ isOwed }) => isOwed === false)).row, { n: 2 });
});

test('a token that is renewed in time keeps the socket, and one that is bad changes nothing', async (t) => {
  const server = await Server.guarded(t, GRANT);
  const way = await Way.start(t, server);
  await put(server, 1, { n: 1 });
  const its = client(t, way.url, { token: tokenOf(GRANT, 3) });
  const expired = new Promise((resolve) => setTimeout(resolve, 3500));
  const some = follow(its, { table: 'orders', keys: [1] });
  await some.next('complete');
  const refused = new Promise((resolve) => its.on('error', resolve));
  its.token = 'none';
  assert.equal((await refused).code, 'bad_token');
  its.token = async () => tokenOf(GRANT);
  await expired;
  await put(server, 1, { n: 2 });
  await some.next(({ row }) => row?.n === 2);
  assert.deepEqual([its.state, way.count('/websocket')], ['live', 1]);
});

test('what a new token does not grant is gone, and what it grants beside comes', { timeout: 20_000 }, async (t) => {
  const server = await Server.guarded(t, GRANT);
  const way = await Way.start(t, server);
  for (const key of [1, 2, 3]) await put(server, key, { n: key });
  await server.send('PUT', '/tables/notes/a', { n: 1 });
  const its = client(t, way.url, { token: tokenOf({ tables: { orders: { read: [1, 2] }, notes: { read: '*' } } }) });
  const [some, all, notes] = [[1, 2, 3], '*'].map((keys) => follow(its, { table: 'orders', keys }))
    .concat(follow(its, { table: 'notes', keys: ['a'] }));
  for (const each of [some, all, notes]) await each.next('complete');
  const known = (name) => Array.from(its.rows(name), ({ key }) => key).sort();
  assert.deepEqual([known('orders'), known('notes')], [[1, 2], ['a']]);
  its.token = tokenOf({ tables: { orders: { read: [2, 3] } } });
  await some.next(({ key, row }) => key === 1 && !row);
  await notes.next(({ row }) => !row);
  await notes.next('forbidden');
  await all.next(({ key, row }) => key === 3 && row);
  await until(its, () => its.state === 'live');
  assert.deepEqual([known('orders'), known('notes')], [[2, 3], []]);
  await put(server, 1, { n: 10 });
  await put(server, 3, { n: 30 });
  await all.next(({ row }) => row?.n === 30);
  assert.deepEqual([known('orders'), way.count('/websocket')], [[2, 3], 1]);
});
