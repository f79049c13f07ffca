// Against a real server behind a way that lets no WebSocket through: event streams take its place.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { client, EventSource, follow, put, Server, tokenOf, until, Way } from './support.mjs';

const EVERYTHING = { read: '*', write: true, tables: { orders: { read: '*', write: true } } };

// For tests in which a client that falls back would wait for ever.
const LIMITED = { timeout: 90_000 };

// A server, a client of it that has no WebSocket, and the way between them.
async function cutOff(t, { server, upgrades = 'refused', ...options } = {}) {
  server ??= await Server.start(t);
  const way = await Way.start(t, server, upgrades);
  return { server, way, its: client(t, way.url, { EventSource, ...options }) };
}

for (const upgrades of ['refused', 'killed']) {
  test(`rows are followed where upgrades are ${upgrades}`, async (t) => {
    const { server, way, its } = await cutOff(t, { upgrades });
    await put(server, 1, { n: 1 });
    const some = follow(its, { table: 'orders', keys: [1, 'a/b&c'] });
    await some.next('complete');
    await until(its, () => its.state === 'live');
    assert.equal(way.count('/websocket'), 2);
    assert.deepEqual([its.get('orders', 1), its.get('orders', 'a/b&c')], [{ n: 1 }, undefined]);
    await put(server, 'a/b&c', { n: 2 });
    assert.deepEqual((await some.next(({ key }) => key === 'a/b&c')).row, { n: 2 });
    await server.send('DELETE', '/tables/orders/1');
    const gone = await some.next(({ action }) => action === 'DELETE');
    assert.deepEqual([gone.key, gone.previous], [1, { n: 1 }]);
  });
}

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`after ${signal} it is back by event streams, with what changed meanwhile`, async (t) => {
    const { server, way, its } = await cutOff(t);
    for (const key of [1, 2, 3]) await put(server, key, { n: key });
    await server.add({ productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 });
    const [some, all] = [follow(its, { table: 'orders', keys: [1, 2] }), follow(its, '*')];
    await some.next('complete');
    await all.next('complete');
    await until(its, () => its.state === 'live');
    await server.stop(signal);
    await until(its, () => its.state === 'stale');
    assert.deepEqual(its.get('orders', 1), { n: 1 });
    await server.start();
    await put(server, 1, { n: 10 });
    await server.send('DELETE', '/tables/orders/2');
    await server.send('DELETE', '/products/1');
    await some.next(({ row }) => row?.n === 10);
    await some.next(({ key, row }) => key === 2 && !row);
    await all.next(({ key, row }) => key === 1 && !row);
    await until(its, () => its.state === 'live');
    assert.deepEqual([its.get('orders', 2), its.get('products', 1)], [undefined, undefined]);
    assert.equal(way.count('/websocket'), 2, 'it does not try again by itself');
  });
}

test('many subscriptions of a table are one stream, which is opened anew for more and left with the last', async (t) => {
  const { server, way, its } = await cutOff(t);
  for (const key of [1, 2, 3]) await put(server, key, { n: key });
  const first = follow(its, { table: 'orders', keys: [1] });
  const second = follow(its, { table: 'orders', keys: [2] });
  await second.next('complete');
  assert.equal(way.count('/events'), 1);
  const third = follow(its, { table: 'orders', keys: [3] });
  await third.next('complete');
  await until(its, () => its.state === 'live');
  assert.equal(way.count('/events'), 2);
  first.end();
  await put(server, 1, { n: 11 });
  await put(server, 3, { n: 13 });
  await third.next(({ row }) => row?.n === 13);
  assert.deepEqual([its.get('orders', 1), way.count('/events')], [undefined, 2]);
  // All of a table has what is named beside it.
  const all = follow(its, { table: 'orders', keys: '*' });
  await all.next('complete');
  assert.equal(its.get('orders', 1).n, 11);
  const beside = follow(its, { table: 'orders', keys: [1, 99] });
  await beside.next('complete');
  assert.equal(way.count('/events'), 3);
  all.end();
  await put(server, 2, { n: 12 });
  await second.next(({ row }) => row?.n === 12);
  assert.equal(way.count('/events'), 4);
  for (const each of [second, third, beside]) each.end();
  await untilStreams(server, 0);
  assert.equal(its.state, 'live');
});

// Resolves once the server has so many readers.
async function untilStreams(server, count) {
  for (;;) {
    const text = await (await server.send('GET', '/metrics')).text();
    const counts = [...text.matchAll(/^rowcast_connections\{[^}]*\} (\d+)$/gm)];
    if (counts.reduce((sum, [, each]) => sum + Number(each), 0) === count) return;
  }
}

test('a key that is a star is one row', async (t) => {
  const { server, its } = await cutOff(t);
  for (const key of ['*', 'other']) await put(server, key, { key });
  const star = follow(its, { table: 'orders', keys: ['*'] });
  await star.next('complete');
  await put(server, 'other', { n: 2 });
  await put(server, '*', { n: 1 });
  await star.next(({ row }) => row?.n === 1);
  assert.deepEqual(star.told.map(({ key, action }) => [key, action]), [['*', 'SNAPSHOT']]);
});

test('a token is asked for anew when it has expired', async (t) => {
  const server = await Server.guarded(t, EVERYTHING);
  await put(server, 1, { n: 1 });
  let asked = 0;
  let isRenewed;
  const renewed = new Promise((resolve) => (isRenewed = resolve));
  const token = async () => {
    asked += 1;
    // Each WebSocket that does not open may be refused for its token; the stream has the third.
    if (asked === 4) isRenewed();
    return tokenOf(EVERYTHING, asked === 3 ? 4 : 3600);
  };
  const { its } = await cutOff(t, { server, token });
  const some = follow(its, { table: 'orders', keys: [1] });
  await some.next('complete');
  await renewed;
  await put(server, 1, { n: 2 });
  await some.next(({ row }) => row?.n === 2);
  await until(its, () => its.state === 'live');
  assert.equal(asked, 4);
});

test('a token that is not valid is no reason for event streams', LIMITED, async (t) => {
  const server = await Server.guarded(t, EVERYTHING);
  await put(server, 1, { n: 1 });
  const { way, its } = await cutOff(t, { server, upgrades: 'pass', token: 'none', platform: { random: () => 0 } });
  const some = follow(its, { table: 'orders', keys: [1] });
  while (way.count('/websocket') < 4) await new Promise((resolve) => its.on('state', resolve));
  its.token = tokenOf(EVERYTHING);
  await some.next('complete');
  assert.equal(way.count('/events'), 0);
});

test('another token is used by other streams', async (t) => {
  const server = await Server.guarded(t, EVERYTHING);
  for (const key of [1, 2]) await put(server, key, { n: key });
  const reading = (read) => tokenOf({ tables: { orders: { read } } });
  const { its } = await cutOff(t, { server, token: reading([1]) });
  const all = follow(its, { table: 'orders', keys: '*' });
  await all.next('complete');
  its.token = reading([2]);
  await all.next(({ key, row }) => key === 1 && !row);
  await until(its, () => its.state === 'live');
  assert.deepEqual([its.get('orders', 1), its.get('orders', 2)], [undefined, { n: 2 }]);
});

test('what is refused is refused alone, with its reason', async (t) => {
  const server = await Server.guarded(t, EVERYTHING);
  for (const key of [1, 2]) await put(server, key, { n: key });
  const { its } = await cutOff(t, { server, token: tokenOf({ read: [5], tables: { orders: { read: [1] } } }) });
  const refusals = [];
  const refused = ({ code, message }) => refusals.push([code, message]);
  its.subscribe({ table: 'orders', keys: ['x'.repeat(300)] }, { refused });
  const [good, partly, nothing, missing] = [{ keys: [1] }, { keys: [1, 2] }, { table: 'notes', keys: [1] }, { table: 'notes', keys: '*' }]
    .map((what) => follow(its, { table: 'orders', ...what }));
  await partly.next('forbidden');
  await partly.next('complete');
  await nothing.next('forbidden');
  await missing.next('forbidden');
  await good.next('complete');
  assert.deepEqual([its.get('orders', 1), its.get('orders', 2)], [{ n: 1 }, undefined]);
  assert.equal(refusals[0][0], 'bad_keys');
  assert.match(refusals[0][1], /key/);
  // What was refused stays refused, and disturbs nobody who comes later.
  const later = follow(its, { table: 'orders', keys: [1] });
  await later.next('complete');
  assert.ok(!later.told.includes('forbidden'));
});

test('a table that is not there is unknown, and others are followed', async (t) => {
  const { server, its } = await cutOff(t);
  await put(server, 1, { n: 1 });
  const [missing, good] = ['nothing', 'orders'].map((table) => follow(its, { table, keys: [1] }));
  await missing.next('unknown_table');
  await good.next('complete');
  assert.deepEqual(its.get('orders', 1), { n: 1 });
});

test('long lists of keys are several streams, and too long ones are refused with the ways out', async (t) => {
  const { server, way, its } = await cutOff(t);
  await put(server, 'key 999', { n: 1 });
  const list = (from, to) => Array.from({ length: to - from }, (_, number) => `key ${from + number}`);
  const some = follow(its, { table: 'orders', keys: list(0, 1000) });
  await some.next('complete');
  assert.ok(way.count('/events') > 1 && way.count('/events') <= 5, `${way.count('/events')} streams`);
  assert.deepEqual(its.get('orders', 'key 999'), { n: 1 });
  const errors = [];
  const refused = new Promise((resolve) => {
    its.subscribe({ table: 'orders', keys: list(1000, 9000) }, { refused: (error) => resolve(errors.push(error)) });
  });
  await refused;
  assert.equal(errors[0].code, 'too_many_streams');
  assert.match(errors[0].message, /'\*'.*HTTP\/2/);
  await put(server, 'key 0', { n: 2 });
  await some.next(({ key }) => key === 'key 0');
});

test('a server that is away is no reason for event streams', LIMITED, async (t) => {
  const server = await Server.start(t);
  await put(server, 1, { n: 1 });
  const way = await Way.start(t, server);
  await server.stop();
  const its = client(t, way.url, { EventSource, platform: { random: () => 0 } });
  const some = follow(its, { table: 'orders', keys: [1] });
  while (way.count('/websocket') < 4) await new Promise((resolve) => its.on('state', resolve));
  await server.start();
  await some.next('complete');
  assert.equal(way.count('/events'), 0);
});

test('a client whose WebSocket opened once waits for another, and one without an EventSource too', LIMITED, async (t) => {
  const server = await Server.start(t);
  await put(server, 1, { n: 1 });
  for (const options of [{ upgrades: 'pass' }, { EventSource: undefined }]) {
    const { way, its } = await cutOff(t, { server, ...options, platform: { random: () => 0 } });
    if (options.upgrades) await until(its, () => its.state === 'live');
    way.upgrades = 'refused';
    way.cut();
    while (way.count('/websocket') < 5) await new Promise((resolve) => its.on('state', resolve));
    way.upgrades = 'pass';
    await follow(its, { table: 'orders', keys: [1] }).next('complete');
    assert.equal(way.count('/events'), 0);
  }
});

test('whoever hurries a client that waits has it try a WebSocket again', async (t) => {
  const { server, way, its } = await cutOff(t);
  await put(server, 1, { n: 1 });
  const some = follow(its, { table: 'orders', keys: [1] });
  await some.next('complete');
  way.upgrades = 'pass';
  way.cut();
  await until(its, () => its.phase === 'waiting');
  its.hurry();
  await some.next('complete');
  await put(server, 1, { n: 2 });
  await some.next(({ row }) => row?.n === 2);
  assert.deepEqual([way.count('/websocket'), way.count('/events')], [3, 1]);
});

test('a stream whose network died is left', async (t) => {
  const { server, way, its } = await cutOff(t, { silenceMs: 600 });
  await put(server, 1, { n: 1 });
  const some = follow(its, { table: 'orders', keys: [1] });
  await some.next('complete');
  await until(its, () => its.state === 'live');
  way.die();
  await until(its, () => its.state === 'stale');
  await put(server, 1, { n: 2 });
  way.revive();
  await some.next(({ row }) => row?.n === 2);
});
