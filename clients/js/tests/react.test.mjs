import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createElement, StrictMode } from 'react';
import renderer from 'react-test-renderer';
import { useClientState, useRow, useRows } from '../react.js';
import { turn, World } from './world.mjs';

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const { act } = renderer;
const row = (version, key, n, action = 'UPDATE') => ({ action, version, table: 'orders', key, row: { n } });
const keysAsked = ({ sent }) => sent.map(({ command, keys }) => [command, keys]);

// Draws components over a client whose socket the test holds.
async function draw(t, component, props) {
  const world = new World();
  const client = world.open();
  let root;
  const redraw = (given) =>
    act(async () => {
      const element = createElement(StrictMode, null, createElement(component, { client, ...given }));
      if (root) root.update(element);
      else root = renderer.create(element);
    });
  await redraw(props);
  await turn();
  const end = async () => {
    await act(async () => root?.unmount());
    root = null;
  };
  t.after(async () => {
    await end();
    client.close();
  });
  const say = (...frames) => act(async () => world.socket.receive(...frames));
  const text = () => [root.toJSON()].flat().map((each) => each?.children?.join('') ?? each).join('|');
  return { world, client, redraw, say, text, end };
}

test('a component shows its row, and follows another one when it is given that', async (t) => {
  const One = ({ client, id }) => createElement('p', null, useRow(client, 'orders', id)?.n ?? 'nothing');
  const { world, client, redraw, say, text, end } = await draw(t, One, { id: 1 });
  assert.deepEqual(keysAsked(world.socket), [['subscribe', [1]]]);
  assert.equal(text(), 'nothing');
  await say(row(1, 1, 'first', 'SNAPSHOT'));
  assert.equal(text(), 'first');
  await say(row(2, 1, 'second'));
  assert.equal(text(), 'second');
  await redraw({ id: 2 });
  await turn();
  assert.deepEqual(keysAsked(world.socket).slice(1), [['unsubscribe', [1]], ['subscribe', [2]]]);
  assert.equal(text(), 'nothing');
  await say(row(3, 2, 'other'));
  assert.equal(text(), 'other');
  await say(row(4, 2, 'other', 'DELETE'));
  assert.equal(text(), 'nothing');
  await end();
  await turn();
  assert.deepEqual(keysAsked(world.socket).at(-1), ['unsubscribe', [2]]);
  assert.deepEqual([...client.rows('orders')], []);
});

test('a component shows rows, and is drawn once for many changes of a moment', async (t) => {
  let drawn = 0;
  const Many = ({ client, keys }) => {
    drawn += 1;
    return useRows(client, 'orders', keys).map(({ key, row }) => createElement('p', { key }, `${key} ${row.n}`));
  };
  const { say, redraw, text } = await draw(t, Many, { keys: '*' });
  // Timers fire in their order, so what is drawn with the next frame is there.
  const frame = () => act(() => new Promise((resolve) => setTimeout(resolve, 40)));
  await say(row(1, 1, 'a'), row(2, 2, 'b'), row(3, 3, 'c'));
  await frame();
  assert.equal(text(), '1 a|2 b|3 c');
  drawn = 0;
  await say(...Array.from({ length: 100 }, (_, number) => row(number + 4, 2, `b${number}`)), row(200, 1, 'a', 'DELETE'));
  await frame();
  assert.equal(text(), '2 b99|3 c');
  // StrictMode draws everything twice.
  assert.equal(drawn, 2);
  // Keys are in the order in which they are given; another array of the same is no other subscription.
  await redraw({ keys: [3, 1, 2] });
  await frame();
  assert.equal(text(), '3 c|2 b99');
});

test('a component tells the state', async (t) => {
  const State = ({ client }) => createElement('p', null, useClientState(client));
  const { world, say, text } = await draw(t, State, {});
  assert.equal(text(), 'live');
  await say({ live: false });
  assert.equal(text(), 'stale');
  await act(async () => world.socket.onclose({ code: 1006 }));
  assert.equal(text(), 'stale');
});
