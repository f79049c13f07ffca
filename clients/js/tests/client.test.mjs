import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, RowcastError } from '../client.js';
import { turn, World } from './world.mjs';

const row = (version, key, n = version, action = 'SNAPSHOT') => ({ action, version, table: 'orders', key, row: { n } });
const commands = ({ sent }) => sent.map(({ id, ...command }) => command);

// A client of orders 1 and 2 that is live.
async function orders(handler = () => {}, { errors, ...options } = {}) {
  const world = new World();
  const client = world.open(options);
  if (errors) client.on('error', (error) => errors.push(error.message));
  const end = client.subscribe({ table: 'orders', keys: [1, 2] }, handler);
  await turn();
  world.socket.receive({ epoch: 'one' }, row(5, 1), row(6, 2));
  world.socket.accept();
  return { world, client, end };
}

test('a subscription is told what there is, that it is complete, and every change', async () => {
  const told = [];
  const world = new World();
  const states = [];
  const client = world.connect();
  client.on('state', (state) => states.push(`${state} ${client.phase}`));
  client.subscribe({ table: 'orders', keys: [1, 2] }, {
    change: ({ key, action, row, previous }) => told.push([action, key, row?.n, previous?.n]),
    complete: () => told.push('complete'),
  });
  await turn();
  world.socket.onopen();
  assert.deepEqual(commands(world.socket), [{ command: 'subscribe', table: 'orders', keys: [1, 2], snapshot: true }]);
  world.socket.receive({ epoch: 'one' }, row(5, 1), { absent: [2], versions: [0], table: 'orders' });
  assert.deepEqual([client.state, client.isLive('orders')], ['connecting', false]);
  world.socket.accept();
  assert.deepEqual([client.state, client.isLive('orders')], ['live', true]);
  world.socket.receive(row(7, 2, 7, 'INSERT'), row(8, 1, 8, 'UPDATE'), row(9, 2, 7, 'DELETE'));
  assert.deepEqual(told, [
    ['SNAPSHOT', 1, 5, undefined], 'complete', ['INSERT', 2, 7, undefined], ['UPDATE', 1, 8, 5], ['DELETE', 2, undefined, 7],
  ]);
  assert.deepEqual([client.get('orders', 1), client.get('orders', '1'), client.get('orders', 2)], [{ n: 8 }, { n: 8 }, undefined]);
  assert.deepEqual([...client.rows('orders')], [{ key: 1, row: { n: 8 }, version: 8, isOwed: false }]);
  assert.deepEqual(states, ['connecting connecting', 'connecting syncing', 'live open']);
});

test('products are followed by their ids, in any of the ways to name them', async () => {
  const world = new World();
  const client = world.open();
  const told = [];
  client.subscribe({ productIDs: [1] }, ({ table, key, row }) => told.push([table, key, row?.productName]));
  client.subscribe([2], () => {});
  client.subscribe({ table: 'products', keys: ['3'] }, () => {});
  client.subscribe('*', () => {});
  await turn();
  assert.deepEqual(commands(world.socket), [
    { command: 'subscribe', table: 'products', keys: '*', snapshot: true },
    { command: 'subscribe', table: 'products', keys: [1, 2, '3'], snapshot: true },
  ]);
  world.socket.receive({ action: 'INSERT', version: 1, product: { productId: 1, productName: 'Lamp' } });
  assert.deepEqual(told, [['products', 1, 'Lamp']]);
  assert.equal(client.get('products', 1).productName, 'Lamp');
});

test("somebody's own table of products is one like any other", async () => {
  const world = new World();
  const told = [];
  world.open().subscribe({ table: 'products', keys: ['a b'] }, ({ key, row }) => told.push([key, row]));
  await turn();
  assert.deepEqual(commands(world.socket), [{ command: 'subscribe', table: 'products', keys: ['a b'], snapshot: true }]);
  world.socket.receive({ action: 'INSERT', version: 1, table: 'products', key: 'a b', row: { label: 'L' } });
  assert.deepEqual(told, [['a b', { label: 'L' }]]);
});

test('what is known is named after a reconnect, rows that are gone too', async () => {
  const { world, client } = await orders();
  world.socket.receive(row(9, 2, 0, 'DELETE'));
  world.socket.onclose({ code: 1006 });
  assert.deepEqual([client.state, client.phase, client.retryAt], ['stale', 'waiting', world.now + 250]);
  assert.deepEqual(client.get('orders', 1), { n: 5 });
  await world.pass(250);
  world.socket.onopen();
  assert.deepEqual(commands(world.socket), [
    { command: 'subscribe', table: 'orders', keys: [1, 2], versions: [5, 9], epoch: 'one' },
  ]);
  assert.equal(client.state, 'stale');
  world.socket.accept();
  assert.equal(client.state, 'live');
});

test('many subscribers of a key are one subscription, which ends with the last of them', async () => {
  const { world, client, end } = await orders();
  const told = [];
  const ends = [1, 2].map((name) => client.subscribe({ table: 'orders', keys: [2, '2'] }, { 
    change: ({ row, action }) => told.push([name, action, row.n]),
    complete: () => told.push([name, 'complete']),
  }));
  assert.deepEqual(told, []);
  await turn();
  assert.deepEqual(world.socket.sent, []);
  assert.deepEqual(told.splice(0), [[1, 'SNAPSHOT', 6], [1, 'complete'], [2, 'SNAPSHOT', 6], [2, 'complete']]);
  world.socket.receive(row(7, 2, 7, 'UPDATE'));
  assert.deepEqual(told.splice(0), [[1, 'UPDATE', 7], [2, 'UPDATE', 7]]);
  end();
  ends[0]();
  await turn();
  assert.deepEqual(commands(world.socket), [{ command: 'unsubscribe', table: 'orders', keys: [1] }]);
  assert.equal(client.get('orders', 1), undefined);
  ends[1]();
  ends[1]();
  await turn();
  assert.deepEqual(commands(world.socket).at(-1), { command: 'unsubscribe', table: 'orders', keys: [2] });
  // What was on its way is nobody's.
  world.socket.receive(row(8, 2, 8, 'UPDATE'), { absent: [1], versions: [9], table: 'orders' });
  assert.deepEqual([told, [...client.rows('orders')]], [[], []]);
});

test('what is ended and begun in one turn costs nothing', async () => {
  const { world, client, end } = await orders();
  end();
  const told = [];
  client.subscribe({ table: 'orders', keys: [1, 2] }, ({ row }) => told.push(row.n));
  await turn();
  assert.deepEqual([world.socket.sent, told], [[], [5, 6]]);
  client.subscribe({ table: 'orders', keys: [3] }, () => {})();
  await turn();
  assert.deepEqual(world.socket.sent, []);
});

test('the end of everything leaves what is followed by its key', async () => {
  const { world, client } = await orders();
  const end = client.subscribe({ table: 'orders', keys: '*' }, () => {});
  await turn();
  assert.deepEqual(commands(world.socket), [{ command: 'subscribe', table: 'orders', keys: '*', snapshot: true, epoch: 'one', newest: 6 }]);
  world.socket.receive(row(5, 1), row(6, 2), row(4, 3));
  world.socket.accept();
  assert.deepEqual(Array.from(client.rows('orders'), ({ key }) => key), [1, 2, 3]);
  end();
  await turn();
  assert.deepEqual(commands(world.socket), [
    { command: 'unsubscribe', table: 'orders', keys: '*' },
    { command: 'subscribe', table: 'orders', keys: [1, 2], versions: [5, 6], epoch: 'one' },
  ]);
  assert.deepEqual(Array.from(client.rows('orders'), ({ key }) => key), [1, 2]);
});

test('all rows are asked for once what was ended before is answered', async () => {
  const { world, client, end } = await orders();
  end();
  client.subscribe({ table: 'orders', keys: '*' }, () => {});
  await turn();
  assert.deepEqual(commands(world.socket), [{ command: 'unsubscribe', table: 'orders', keys: [1, 2] }]);
  // It was on its way; then the row went.
  world.socket.receive(row(7, 1, 7, 'UPDATE'));
  world.socket.accept();
  assert.deepEqual(commands(world.socket).map(({ keys }) => keys), ['*']);
  world.socket.receive(row(6, 2));
  world.socket.accept();
  assert.deepEqual([client.get('orders', 1), client.get('orders', 2), client.state], [undefined, { n: 6 }, 'live']);
  const endOfOne = client.subscribe({ table: 'orders', keys: [2] }, () => {});
  await turn();
  world.socket.accept();
  endOfOne();
  await turn();
  world.socket.accept();
  assert.deepEqual(world.socket.sent, []);
});

test('all rows wait for every end before', async () => {
  const { world, client, end } = await orders();
  const endOfAnother = client.subscribe({ table: 'orders', keys: [3] }, () => {});
  await turn();
  world.socket.accept();
  for (const each of [end, endOfAnother]) {
    each();
    await turn();
  }
  client.subscribe({ table: 'orders', keys: '*' }, () => {});
  await turn();
  const [first, second] = world.socket.sent.splice(0);
  assert.deepEqual([first.keys, second.keys], [[1, 2], [3]]);
  world.socket.receive({ reply: first.id, ok: true });
  assert.deepEqual(world.socket.sent, []);
  world.socket.receive({ reply: second.id, ok: true });
  assert.deepEqual(commands(world.socket).map(({ keys }) => keys), ['*']);
});

test('all rows that waited for an end are asked for once, or by the next connection, or not at all', async () => {
  const { world, client, end } = await orders();
  const all = { table: 'orders', keys: '*' };
  end();
  const ends = [client.subscribe(all, () => {})];
  await turn();
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  assert.deepEqual(commands(world.socket).map(({ command, keys }) => [command, keys]), [['subscribe', '*']]);
  world.socket.accept();
  assert.deepEqual(world.socket.sent, []);
  for (let i = 0; i < 2; i += 1) {
    ends.pop()();
    await turn();
    ends.push(client.subscribe(all, () => {}));
    await turn();
  }
  ends.pop()();
  await turn();
  assert.deepEqual(commands(world.socket).map(({ command }) => command), Array(3).fill('unsubscribe'));
  world.socket.accept();
  assert.deepEqual(world.socket.sent, []);
});

test('of a snapshot of all rows, what it did not name is gone, and one that was broken off leaves all', async () => {
  const { world, client } = await orders();
  const told = [];
  client.subscribe({ table: 'orders', keys: '*' }, ({ key, action, row }) => told.push([key, action, row?.n]));
  await turn();
  world.socket.receive(row(4, 3), row(5, 1));
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  told.length = 0;
  // As it was, it is named too.
  world.socket.receive(row(6, 2), row(9, 4, 9, 'INSERT'));
  const known = () => Array.from(client.rows('orders'), ({ key }) => key);
  assert.deepEqual(known(), [1, 2, 3, 4]);
  world.socket.accept();
  assert.deepEqual([known(), told], [[2, 4], [[4, 'INSERT', 9], [1, 'ABSENT', undefined], [3, 'ABSENT', undefined]]]);
});

test('the reply to all rows that were ended meanwhile says nothing of what is gone', async () => {
  const { world, client } = await orders();
  const end = client.subscribe({ table: 'orders', keys: '*' }, () => {});
  await turn();
  end();
  await turn();
  world.socket.accept();
  assert.deepEqual([client.get('orders', 1), client.get('orders', 2)], [{ n: 5 }, { n: 6 }]);
});

test('a new subscription leaves the others live', async () => {
  const { world, client } = await orders();
  client.subscribe({ table: 'orders', keys: [3] }, () => {});
  await turn();
  assert.deepEqual([world.socket.sent.length, client.state, client.isLive('orders')], [1, 'live', true]);
});

test('a handler that fails is told the row again, later and later, and disturbs nobody', async () => {
  const [told, errors, others] = [[], [], []];
  let failing = true;
  const handler = ({ row, action }) => {
    told.push([action, row?.n]);
    if (failing) throw new Error('no');
  };
  const { world, client } = await orders(handler, { errors });
  client.subscribe({ table: 'orders', keys: [1, 2] }, ({ row }) => others.push(row?.n));
  await turn();
  assert.deepEqual([told.splice(0), others.splice(0)], [[['SNAPSHOT', 5], ['SNAPSHOT', 6]], [5, 6]]);
  assert.equal(client.state, 'live');
  world.socket.receive(row(7, 1, 7, 'UPDATE'));
  await turn();
  // Each row has its own pauses: the first has failed twice.
  await world.pass(1000);
  assert.deepEqual(told.splice(0), [['UPDATE', 7], ['SNAPSHOT', 6]]);
  await world.pass(999);
  failing = false;
  world.socket.receive(row(9, 2, 0, 'DELETE'));
  await world.pass(1);
  assert.deepEqual(told.splice(0), [['DELETE', undefined], ['SNAPSHOT', 7]]);
  await world.pass(60_000);
  assert.deepEqual([told, others], [[], [7, undefined]]);
  assert.ok(errors.every((message) => message === 'no'));
});

test('a handler whose promise is rejected has failed, and rests longer each time', async () => {
  const told = [];
  const { world } = await orders(async ({ row }) => {
    await turn();
    if (told.push([row.n, world.now]) <= 6) throw new Error('no');
  }, { errors: [] });
  const begun = world.now;
  for (let second = 0; second < 60; second += 1) {
    for (let left = 3; left > 0; left -= 1) await turn();
    await world.pass(1000);
  }
  const times = (n) => told.filter(([known]) => known === n).map(([, at]) => at - begun);
  assert.deepEqual([times(5), times(6)], [[0, 1000, 3000, 7000], [0, 1000, 3000, 7000]]);
});

test('what a handler takes late is not told again, and what it did not take after that is', async () => {
  const told = [];
  const { world, end } = await orders(({ row }) => new Promise((resolve, reject) => told.push({ n: row.n, resolve, reject })), { errors: [] });
  world.socket.receive(row(7, 1, 7, 'UPDATE'), row(8, 1, 8, 'UPDATE'));
  const [first, other, older, newer] = told.splice(0);
  for (const { resolve } of [first, other]) resolve();
  newer.reject(new Error('no'));
  await turn();
  older.resolve();
  await world.pass(1000);
  assert.deepEqual(told.map(({ n }) => n), [8]);
  told.splice(0)[0].reject(new Error('no'));
  await turn();
  assert.equal(world.due.length, 2);
  end();
  assert.equal(world.due.length, 1, 'that of silence');
  await world.pass(60_000);
  assert.deepEqual(told, []);
});

test('a row on which a handler failed several times at once is told once', async () => {
  const told = [];
  const { world } = await orders(({ row }) => new Promise((_, reject) => told.push({ n: row.n, reject })), { errors: [] });
  world.socket.receive(row(7, 1, 7, 'UPDATE'), row(8, 1, 8, 'UPDATE'));
  for (const { reject } of told.splice(0)) reject(new Error('no'));
  await turn();
  for (let second = 0; second < 60; second += 1) {
    await world.pass(1000);
    if (world.socket.sent.length > 0) world.socket.accept();
  }
  assert.deepEqual(told.map(({ n }) => n).sort(), [6, 8]);
});

test('nobody is told anything after it has ended, not even within a change', async () => {
  const told = [];
  const { world, client } = await orders();
  const ends = [];
  for (const name of [1, 2]) {
    ends.push(client.subscribe({ table: 'orders', keys: [1] }, ({ row }) => {
      told.push([name, row.n]);
      if (row.n === 7) for (const end of ends) end();
    }));
  }
  await turn();
  world.socket.receive(row(7, 1, 7, 'UPDATE'), row(8, 1, 8, 'UPDATE'));
  assert.deepEqual(told, [[1, 5], [2, 5], [1, 7]]);
});

test('another epoch has everything asked for anew, after a rest', async () => {
  const { world, client } = await orders();
  world.socket.receive({ epoch: 'two' });
  assert.deepEqual([client.state, client.phase], ['stale', 'syncing']);
  await world.pass(0);
  assert.deepEqual(commands(world.socket), [{ command: 'subscribe', table: 'orders', keys: [1, 2], epoch: 'two', snapshot: true }]);
  world.socket.receive(row(1, 1));
  world.socket.accept();
  world.socket.receive({ epoch: 'three' });
  await world.pass(2999);
  assert.deepEqual([client.state, ...commands(world.socket)], ['stale']);
  await world.pass(1);
  assert.equal(world.socket.sent.length, 1);
  world.socket.receive(row(1, 1), { absent: [2], versions: [0], table: 'orders' });
  world.socket.accept();
  assert.deepEqual([client.state, client.get('orders', 1), client.get('orders', 2)], ['live', { n: 1 }, undefined]);
});

test("a table's epoch is its own, until one is told for all", async () => {
  const { world, client } = await orders();
  client.subscribe([1], () => {});
  await turn();
  world.socket.receive({ action: 'SNAPSHOT', version: 3, product: { productId: 1, productName: 'Lamp' } });
  world.socket.accept();
  world.socket.receive({ epoch: 'two', table: 'orders' });
  assert.deepEqual([client.isLive('orders'), client.isLive('products'), client.state], [false, true, 'stale']);
  await world.pass(3000);
  assert.equal(world.socket.sent.length, 1);
  world.socket.receive(row(1, 1), row(2, 2));
  world.socket.accept();
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  assert.deepEqual(commands(world.socket).map(({ epoch, versions }) => [epoch, versions]), [['two', [1, 2]], ['one', [3]]]);
  // Each connection begins with the epoch of all.
  world.socket.receive({ epoch: 'one' });
  world.socket.accept();
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  assert.deepEqual(commands(world.socket).map(({ epoch }) => epoch), ['two', 'one']);
  world.socket.accept();
  world.socket.receive({ epoch: 'three' });
  await world.pass(3000);
  assert.deepEqual(commands(world.socket).map(({ epoch, versions }) => [epoch, versions]), [['three', undefined], ['three', undefined]]);
});

// A server that is behind would tell rows of the epoch before as rows of this one.
test("a table's epoch is named though no row of it is known", async () => {
  const { world, client } = await orders();
  client.subscribe({ table: 'notes', keys: '*' }, () => {});
  await turn();
  world.socket.receive({ epoch: 'two', table: 'notes' });
  world.socket.accept();
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  const { epoch, newest, snapshot } = commands(world.socket).find(({ table }) => table === 'notes');
  assert.deepEqual([epoch, newest, snapshot], ['two', undefined, true]);
});

test('where changes are lost, everything is asked for anew', async () => {
  const { world, client } = await orders(() => {}, { losesChanges: true });
  const counts = [];
  client.on('skipped', (count) => counts.push(count));
  world.socket.receive({ skipped: 3 }, { skipped: 4 });
  assert.deepEqual([client.state, counts], ['stale', [3, 4]]);
  await world.pass(0);
  assert.deepEqual(commands(world.socket).map(({ versions }) => versions), [[5, 6]]);
  world.socket.receive({ skipped: 1 });
  world.socket.accept();
  assert.equal(client.state, 'stale');
  await world.pass(3000);
  world.socket.accept();
  assert.equal(client.state, 'live');
});

test('an answer to a question that was asked anew counts for nothing', async () => {
  const { world, client } = await orders();
  const complete = [];
  client.subscribe({ table: 'orders', keys: [3] }, { complete: () => complete.push('complete') });
  await turn();
  const [{ id }] = world.socket.sent.splice(0);
  world.socket.receive({ epoch: 'two' });
  await world.pass(0);
  assert.deepEqual(commands(world.socket).map(({ keys }) => keys), [[1, 2, 3]]);
  world.socket.receive({ reply: id, ok: true });
  assert.deepEqual(complete, []);
  world.socket.accept();
  assert.deepEqual(complete, ['complete']);
});

test('lost sources are told, of all tables and of each', async () => {
  const { world, client } = await orders();
  client.subscribe([1], () => {});
  await turn();
  world.socket.accept();
  const after = (frame) => {
    world.socket.receive(frame);
    return [client.state, client.isLive('orders'), client.isLive('products')];
  };
  assert.deepEqual(after({ live: false, table: 'orders' }), ['stale', false, true]);
  assert.deepEqual(after({ live: false }), ['stale', false, false]);
  assert.deepEqual(after({ live: true, table: 'orders' }), ['stale', false, false]);
  assert.deepEqual(after({ live: false, table: 'orders' }), ['stale', false, false]);
  assert.deepEqual(after({ live: true }), ['stale', false, true]);
  assert.equal(client.phase, 'open');
  // It is said anew on each connection.
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  world.socket.accept();
  assert.equal(client.state, 'live');
});

test('one bad key refuses itself alone', async () => {
  const world = new World();
  const client = world.open();
  const [refused, complete] = [[], []];
  for (const keys of [[1, 2, 'x'], [3, 4]]) {
    client.subscribe({ table: 'orders', keys }, {
      refused: ({ code, table }) => refused.push([keys.at(-1), code, table]),
      complete: () => complete.push(keys.at(-1)),
    });
  }
  await turn();
  const accepted = [];
  while (world.socket.sent.length > 0) {
    const { keys, id } = world.socket.sent.shift();
    if (!keys.includes('x')) accepted.push(...keys);
    const ok = !keys.includes('x');
    world.socket.receive(ok ? { reply: id, ok } : { reply: id, ok, error: 'keys[0] is no key', code: 'bad_keys' });
  }
  assert.deepEqual([accepted.sort(), refused, complete], [[1, 2, 3, 4], [['x', 'bad_keys', 'orders']], [4]]);
  assert.equal(client.state, 'live');
});

test('a refusal is told, and asked again after a while', async () => {
  const refused = [];
  const world = new World();
  const client = world.open();
  client.subscribe({ table: 'orders', keys: '*' }, { refused: (error) => refused.push(error), complete: () => refused.push('complete') });
  await turn();
  world.socket.refuse('unknown_table', 'there is no table orders');
  assert.ok(refused[0] instanceof RowcastError);
  assert.deepEqual([refused[0].message, refused[0].code], ['there is no table orders', 'unknown_table']);
  await world.pass(29_999);
  assert.equal(world.socket.sent.length, 0);
  await world.pass(1);
  world.socket.accept();
  assert.deepEqual(refused.slice(1), ['complete']);
});

test('rows that are shown are not live while they are refused', async () => {
  const { world, client } = await orders({ refused: () => {} });
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  world.socket.refuse('too_many_subscriptions');
  assert.equal(client.state, 'stale');
  await world.pass(30_000);
  world.socket.accept();
  world.socket.accept();
  assert.equal(client.state, 'live');
});

test('what is forbidden leaves the rest', async () => {
  const told = [];
  const world = new World();
  const client = world.open();
  client.subscribe({ table: 'orders', keys: [1, 2] }, {
    change: ({ key }) => told.push(key), refused: ({ code }) => told.push(code), complete: () => told.push('complete'),
  });
  await turn();
  world.socket.receive({ epoch: 'one' }, row(5, 1));
  world.socket.refuse('forbidden');
  assert.deepEqual([told, client.state, world.due.includes(30_000)], [[1, 'forbidden', 'complete'], 'live', true]);
  assert.equal(world.due.length, 1, 'that of silence');
});

test('rows that are shown and forbidden on another connection are gone before it is live', async () => {
  const told = [];
  const { world, client } = await orders({
    change: ({ key, action }) => told.push([key, action]), refused: ({ code }) => told.push(code), complete: () => told.push('complete'),
  });
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  told.length = 0;
  // Row 1 is as it was.
  world.socket.refuse('forbidden');
  assert.deepEqual([client.state, told], ['stale', []]);
  assert.deepEqual(commands(world.socket), [{ command: 'subscribe', table: 'orders', keys: [1, 2], epoch: 'one', snapshot: true }]);
  world.socket.receive(row(5, 1));
  world.socket.refuse('forbidden');
  assert.deepEqual([told, client.state], [[[2, 'ABSENT'], 'forbidden', 'complete'], 'live']);
  assert.deepEqual([client.get('orders', 1), client.get('orders', 2), world.socket.sent], [{ n: 5 }, undefined, []]);
});

test('rows that may be forbidden are not live, whenever they are asked for', async () => {
  const { world, client } = await orders({ refused: () => {} });
  const end = client.subscribe({ table: 'orders', keys: '*' }, () => {});
  await turn();
  world.socket.receive(row(5, 1), row(6, 2));
  world.socket.accept();
  client.token = 'narrow';
  end();
  await turn();
  const [authorize, unsubscribe, subscribe] = world.socket.sent.splice(0);
  world.socket.receive({ reply: authorize.id, ok: true }, { reply: unsubscribe.id, ok: true });
  assert.deepEqual([client.state, subscribe.versions], ['live', [5, 6]]);
  world.socket.receive({ reply: subscribe.id, ok: false, code: 'forbidden', error: 'no' });
  assert.equal(client.state, 'stale');
  world.socket.receive(row(5, 1));
  world.socket.refuse('forbidden');
  assert.deepEqual([client.state, client.get('orders', 1), client.get('orders', 2)], ['live', { n: 5 }, undefined]);
});

test('of all rows nothing is complete where none is granted, and what was shown is gone', async () => {
  const { world, client } = await orders();
  const told = [];
  client.subscribe({ table: 'orders', keys: '*' }, {
    change: ({ key, row }) => told.push([key, row?.n]), refused: ({ code }) => told.push(code), complete: () => told.push('complete'),
  });
  await turn();
  world.socket.receive(row(5, 1), row(6, 2));
  world.socket.accept();
  assert.deepEqual(told.splice(0), [[1, 5], [2, 6], 'complete']);
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  world.socket.refuse('forbidden');
  assert.deepEqual(told, [[1, undefined], [2, undefined], 'forbidden']);
  world.socket.refuse('forbidden');
  assert.equal(client.state, 'live');
});

test('keys go in pieces below what a message may have, smaller ones where that was too large', async () => {
  const world = new World();
  const client = world.open();
  const keys = Array.from({ length: 20_000 }, (_, number) => `a key of forty bytes ${String(number).padStart(19, '0')}`);
  client.subscribe({ table: 'orders', keys }, () => {});
  await turn();
  const sizes = () => world.socket.sent.map((command) => JSON.stringify(command).length);
  const largest = Math.max(...sizes());
  assert.ok(largest <= 64 * 1024, `${largest}`);
  assert.deepEqual(world.socket.sent.flatMap((command) => command.keys), keys);
  world.socket.onclose({ code: 1009 });
  await world.pass(250);
  world.socket.onopen();
  assert.ok(Math.max(...sizes()) <= 32 * 1024);
  assert.equal(world.socket.sent.flatMap((command) => command.keys).length, keys.length);
});

test('what is no row cannot be subscribed to', () => {
  const client = new World().open();
  const refused = [
    {}, { table: 'orders' }, { table: 7, keys: [1] }, { table: 'orders', keys: 1 }, { table: 'orders', keys: [1.5] },
    { table: 'orders', keys: [null] }, { productIDs: [1.5] }, [2 ** 53],
  ];
  for (const what of refused) assert.throws(() => client.subscribe(what, () => {}), TypeError, JSON.stringify(what));
});

test('a row of which only the key came is told as old, and read over HTTP', async (t) => {
  const asked = [];
  t.mock.method(globalThis, 'fetch', async (address, { headers }) => {
    asked.push([address, headers.authorization]);
    return new Response(JSON.stringify({ rows: [{ key: 'a/b', version: 8, row: { n: 8 } }] }));
  });
  const world = new World();
  const client = world.open({ token: 'secret' });
  const told = [];
  client.subscribe({ table: 'orders', keys: ['a/b'] }, ({ row, isOwed }) => told.push([row?.n, isOwed]));
  await turn();
  world.socket.receive({ epoch: 'one' }, row(5, 'a/b'), { action: 'UPDATE', version: 8, table: 'orders', key: 'a/b' });
  world.socket.accept();
  while (told.length < 3) await turn();
  assert.deepEqual(told, [[5, false], [5, true], [8, false]]);
  assert.deepEqual(asked, [['http://test/tables/orders?key=a%2Fb', 'Bearer secret']]);
});

test('the socket is at the address that was given, with the token', () => {
  for (const [url, address] of [
    ['http://host', 'ws://host/websocket'], ['https://host/shop/', 'wss://host/shop/websocket'],
    ['wss://host/shop/websocket', 'wss://host/shop/websocket'], ['ws://host:8080/shop?x#y', 'ws://host:8080/shop/websocket'],
  ]) {
    const world = new World();
    connect(url, { WebSocket: world.WebSocket, platform: world.platform, token: 't' });
    assert.deepEqual([world.socket.url, world.socket.protocols], [address, ['rowcast', 'bearer.t']]);
  }
  const world = new World();
  world.connect();
  assert.deepEqual(world.socket.protocols, []);
  assert.throws(() => connect('http://host', { WebSocket: null }), /there is no WebSocket here/);
  assert.throws(() => connect('', { WebSocket: world.WebSocket }), /URL/);
});

test('a new token is used at once by a client that waits', async () => {
  const world = new World();
  const client = world.connect({ token: 'old' });
  world.socket.onclose({ code: 1006 });
  client.token = 'new';
  assert.deepEqual(world.socket.protocols, ['rowcast', 'bearer.new']);
});

test('a new token is that of the socket that opens, whenever it is set before', async () => {
  const world = new World();
  const asked = [];
  const client = world.connect({ token: () => new Promise((resolve) => asked.push(resolve)) });
  client.token = () => new Promise((resolve) => asked.push(resolve));
  // The older is slow.
  asked[1]('first');
  await turn();
  asked[0]('none');
  await turn();
  assert.deepEqual(world.sockets.map(({ protocols }) => protocols), [['rowcast', 'bearer.first']]);
  const [early] = world.sockets;
  client.token = 'second';
  assert.deepEqual([early.isClosed, world.socket.protocols, client.phase], [true, ['rowcast', 'bearer.second'], 'connecting']);
  early.onopen();
  assert.deepEqual([client.phase, world.due], ['connecting', [10_000]]);
  world.socket.onopen();
  assert.deepEqual([client.phase, world.sockets.length], ['open', 2]);
  client.close();
  client.token = 'late';
  assert.deepEqual([client.phase, world.sockets.length], ['closed', 2]);
});

test('of two functions that are set the last gives the token, however slow the other is', async () => {
  const { world, client } = await orders();
  const asked = [];
  for (const _ of [1, 2]) client.token = () => new Promise((resolve) => asked.push(resolve));
  asked[1]('new');
  await turn();
  asked[0]('old');
  await turn();
  assert.deepEqual(commands(world.socket), [{ command: 'authorize', token: 'new' }]);
});

test('a new token is given to an open socket, and counts once it is taken', async (t) => {
  const authorizations = [];
  t.mock.method(globalThis, 'fetch', async (address, { headers }) => {
    authorizations.push(headers.authorization);
    return Response.json({ rows: [] });
  });
  const errors = [];
  const { world, client } = await orders(() => {}, { errors, token: 'old' });
  client.token = 'bad';
  assert.deepEqual(commands(world.socket), [{ command: 'authorize', token: 'bad' }]);
  world.socket.refuse('bad_token');
  assert.deepEqual([errors, client.state], [['bad_token'], 'live']);
  client.token = async () => 'new';
  await turn();
  assert.deepEqual(commands(world.socket), [{ command: 'authorize', token: 'new' }]);
  for (const version of [8, 9]) {
    world.socket.receive({ action: 'UPDATE', version, table: 'orders', key: 1 });
    await turn();
    if (version === 8) world.socket.accept();
    await world.pass(1000);
  }
  assert.deepEqual([authorizations[0], authorizations.at(-1)], ['Bearer old', 'Bearer new']);
  assert.deepEqual([world.sockets.length, world.socket.sent.length], [1, 0]);
});

test('a token that cannot be had leaves the one before', async () => {
  const errors = [];
  const { world, client } = await orders(() => {}, { errors, token: 'old' });
  client.token = async () => { throw new Error('offline'); };
  await turn();
  assert.deepEqual([errors, world.socket.sent, client.state], [['offline'], [], 'live']);
});

test('a server that takes no token on an open socket is connected to anew', async () => {
  const { world, client } = await orders(() => {}, { token: 'old' });
  client.token = 'new';
  world.socket.refuse('unknown_command');
  assert.deepEqual([world.sockets.length, world.socket.protocols], [2, ['rowcast', 'bearer.new']]);
  world.socket.onopen();
  assert.deepEqual(commands(world.socket).map(({ versions }) => versions), [[5, 6]]);
});

test('rows that a new token does not grant are gone, and refused to who named them', async () => {
  const told = [];
  const tell = (name) => ({
    change: ({ key, action, row }) => told.push([name, key, action, row?.n]), refused: ({ code, table }) => told.push([name, code, table]),
  });
  const { world, client } = await orders(tell('both'));
  client.subscribe({ table: 'orders', keys: [1] }, tell('first'));
  client.subscribe([1], tell('product'));
  await turn();
  world.socket.receive({ action: 'SNAPSHOT', version: 3, product: { productId: 1, productName: 'Lamp' } });
  world.socket.accept();
  told.length = 0;
  client.token = 'narrow';
  world.socket.receive({ unsubscribed: [2], table: 'orders' }, { unsubscribed: [1] });
  world.socket.accept();
  assert.deepEqual(told, [
    ['both', 2, 'ABSENT', undefined], ['both', 'forbidden', 'orders'], ['product', 1, 'ABSENT', undefined], ['product', 'forbidden', 'products'],
  ]);
  assert.deepEqual([client.state, client.get('orders', 1), client.get('orders', 2)], ['live', { n: 5 }, undefined]);
  // A row of the version at which it went is taken again.
  client.token = 'wide';
  world.socket.accept();
  await world.pass(3000);
  assert.deepEqual(commands(world.socket).map(({ table, keys }) => [table, keys]), [['orders', [1, 2]], ['products', [1]]]);
  world.socket.receive(row(6, 2));
  world.socket.accept();
  assert.deepEqual([client.get('orders', 2), client.state], [{ n: 6 }, 'live']);
  // Once nothing is refused, nothing is asked for.
  client.token = 'as wide';
  world.socket.accept();
  await world.pass(3000);
  assert.deepEqual(world.socket.sent, []);
});

test('all of a table that a new token reads otherwise is asked for anew, and stale until then', async () => {
  const [refused, states] = [[], []];
  const { world, client } = await orders({ refused: ({ code }) => refused.push(code) });
  client.subscribe({ table: 'orders', keys: '*' }, { refused: () => refused.push('all') });
  client.on('state', (state) => states.push(state));
  await turn();
  world.socket.receive(row(5, 1), row(6, 2), row(4, 3));
  world.socket.accept();
  client.token = 'narrow';
  world.socket.receive({ unsubscribed: '*', table: 'orders' });
  assert.deepEqual([states.at(-1), client.get('orders', 3)], ['stale', { n: 4 }]);
  world.socket.receive({ unsubscribed: [2], table: 'orders' });
  assert.deepEqual([refused, client.get('orders', 2)], [['forbidden'], undefined]);
  world.socket.accept();
  await world.pass(3000);
  assert.deepEqual(commands(world.socket).map(({ keys }) => keys), ['*', [1, 2]]);
  world.socket.receive(row(5, 1));
  world.socket.accept();
  assert.deepEqual([client.state, client.get('orders', 1), client.get('orders', 2)], ['live', { n: 5 }, undefined]);
  assert.equal(client.get('orders', 3), undefined);
});

test('a closed client is silent, and keeps what it knew', async () => {
  const told = [];
  const { world, client } = await orders(() => told.push('change'));
  client.on('error', () => {});
  told.length = 0;
  client.close();
  client.close();
  world.socket.receive(row(9, 1));
  await world.pass(100_000);
  assert.deepEqual([client.state, client.phase, told, world.due, world.sockets.length], ['closed', 'closed', [], [], 1]);
  assert.deepEqual(client.get('orders', 1), { n: 5 });
  assert.throws(() => client.subscribe('*', () => {}), /closed/);
});

test('a listener may close the client, whatever it is told', async () => {
  for (const token of [undefined, 'secret', async () => 'secret']) {
    for (const at of ['waiting', 'connecting', 'syncing', 'open']) {
      const world = new World();
      const client = world.connect({ token });
      await turn();
      client.on('state', () => client.phase === at && client.close());
      client.subscribe({ table: 'orders', keys: [1] }, () => {});
      world.socket.onopen();
      world.socket.onclose({ code: 1006 });
      for (let step = 0; step < 3; step += 1) {
        await world.pass(1000);
        const { socket } = world;
        socket.onopen();
        socket.accept();
      }
      assert.deepEqual([client.state, world.due, world.sockets.every(({ isClosed }) => isClosed)], ['closed', [], true], `${at} ${token}`);
    }
  }
});

test('what goes wrong is said, by the console if nobody listens', async (t) => {
  const { world, client } = await orders();
  const said = t.mock.method(console, 'error', () => {});
  world.socket.receive({ error: 'that was no command', code: 'not_json' });
  assert.equal(said.mock.calls[0].arguments[0].code, 'not_json');
  const heard = [];
  const off = client.on('error', (error) => heard.push(error.code));
  client.on('state', () => { throw new Error('a listener'); });
  world.socket.receive({ error: 'again', code: 'x' }, { live: false });
  assert.deepEqual(heard, ['x']);
  off();
  assert.equal(said.mock.calls[1].arguments[0].message, 'a listener');
});

test('a page that is looked at, or whose network has changed, does not wait, until it is closed', async () => {
  const listeners = new Map();
  const target = {
    addEventListener: (type, run) => listeners.set(type, run),
    removeEventListener: (type, run) => listeners.get(type) === run && listeners.delete(type),
  };
  const { addEventListener, removeEventListener, document } = globalThis;
  Object.assign(globalThis, target, { document: { ...target, hidden: true, baseURI: 'http://test/' } });
  try {
    const world = new World();
    const client = world.connect();
    world.socket.onclose({ code: 1006 });
    listeners.get('visibilitychange')();
    assert.equal(world.sockets.length, 1);
    globalThis.document.hidden = false;
    listeners.get('visibilitychange')();
    assert.equal(world.sockets.length, 2);
    world.socket.onclose({ code: 1006 });
    listeners.get('online')();
    world.socket.onopen();
    listeners.get('offline')();
    assert.deepEqual(commands(world.socket), [{ command: 'subscribe', productIDs: [] }]);
    client.close();
    assert.equal(listeners.size, 0);
  } finally {
    Object.assign(globalThis, { addEventListener, removeEventListener, document });
  }
});
