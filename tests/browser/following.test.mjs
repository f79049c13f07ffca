import assert from 'node:assert/strict';
import { test } from 'node:test';
import { turn, World } from '../../clients/js/tests/world.mjs';
import { follow } from '../../src/http/page/following.js';

const row = (version, key, action = 'SNAPSHOT') => ({ action, version, table: 'orders', key, row: { n: version } });

// A page of orders whose socket the test holds, and what it was told.
async function page() {
  const world = new World();
  const client = world.connect();
  const [states, told] = [[], []];
  follow(client, { table: 'orders', keys: '*' }, {
    state: (state) => states.at(-1) !== state && states.push(state),
    row: ({ key, row }) => told.push([key, row?.n]),
    change: () => told.push('change'),
    complete: () => told.push('complete'),
    refused: (text, code) => told.push([text, code]),
  });
  await turn();
  world.socket.onopen();
  return { world, states, told };
}

test('a page syncs, is live, and counts what changes then', async () => {
  const { world, states, told } = await page();
  world.socket.receive({ epoch: 'one' }, row(1, 1), row(2, 2, 'UPDATE'));
  world.socket.accept();
  world.socket.receive(row(3, 2, 'UPDATE'), row(4, 3), { absent: [1], versions: [5], table: 'orders' });
  assert.deepEqual(told, [[1, 1], [2, 2], 'complete', 'change', [2, 3], [3, 4], [1, undefined]]);
  world.socket.receive({ live: false }, { live: true });
  world.socket.onclose({ code: 1006 });
  await world.pass(250);
  world.socket.onopen();
  world.socket.accept();
  assert.deepEqual(states, ['connecting', 'syncing', 'live', 'stale', 'live', 'waiting', 'connecting', 'syncing', 'live']);
});

test('a page that is refused says why, until it is not', async () => {
  const { world, states, told } = await page();
  world.socket.refuse('unknown_table', 'there is no table orders');
  assert.deepEqual(told, [['there is no table orders', 'unknown_table']]);
  world.socket.receive({ live: false }, { live: true });
  assert.deepEqual(states, ['connecting', 'syncing', 'refused']);
  await world.pass(30_000);
  world.socket.accept();
  assert.deepEqual([states.at(-1), told.at(-1)], ['live', 'complete']);
});
