import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';
import { Events } from '../events.js';
import { turn, World } from './world.mjs';

const row = (version, key, action = 'SNAPSHOT') => ({ action, version, table: 'orders', key, row: { n: version } });
const reply = { reply: 'events', ok: true, subscribed: 1 };
const ADDRESS = 'http://test/';

let answers;
beforeEach(() => {
  // What HTTP answers, by the beginning of the address.
  answers = { [`${ADDRESS}tables`]: () => new Response(null) };
  mock.restoreAll();
  mock.method(globalThis, 'fetch', async (address) => {
    const [, answer] = Object.entries(answers).find(([start]) => address.startsWith(start)) ?? [];
    if (!answer) throw new TypeError('fetch failed');
    return answer();
  });
});

// A socket that is open, its streams, and what it says.
async function opened({ address = ADDRESS, token } = {}) {
  const world = new World();
  const set = { world, sources: [], said: [], closes: [], opens: 0 };
  class EventSource {
    isClosed = false;
    #listeners = {};

    constructor(its) {
      this.url = new URL(its);
      set.sources.push(this);
    }

    addEventListener(type, run) {
      this.#listeners[type] = run;
    }

    close() {
      this.isClosed = true;
    }

    tell(...frames) {
      for (const frame of frames) this.onmessage({ data: JSON.stringify(frame) });
    }

    emit(type, data = '') {
      this.#listeners[type]({ data });
    }
  }
  const its = { address, silenceMs: 30_000, EventSource, ...world.platform };
  set.socket = new Events(its, token);
  set.socket.onopen = () => (set.opens += 1);
  set.socket.onmessage = ({ data }) => set.said.push(JSON.parse(data));
  set.socket.onclose = ({ code }) => set.closes.push(code);
  set.send = async (...commands) => {
    for (const command of commands) set.socket.send(JSON.stringify({ table: 'orders', ...command }));
    await turn();
  };
  set.subscribe = (id, keys, table = 'orders') => set.send({ command: 'subscribe', table, keys, id });
  set.take = () => set.said.splice(0);
  await turn();
  return set;
}

test('it is open once HTTP answers, and closed if that does not', async () => {
  assert.equal((await opened()).opens, 1);
  for (const [status, code] of [[401, 4401], [503, undefined]]) {
    answers = { [ADDRESS]: () => new Response(null, { status }) };
    const { opens, closes, world } = await opened();
    assert.deepEqual([opens, closes, world.due], [0, [code], []]);
  }
  answers = {};
  assert.deepEqual((await opened()).closes, [undefined]);
});

test('a table is one stream, with the token, and the reply of it answers its commands', async () => {
  const set = await opened({ token: 't&' });
  await set.send({ command: 'subscribe', keys: [1, 'a&b'], id: 1 }, { command: 'subscribe', keys: [2], id: 2 });
  const [{ url, tell }, ...others] = set.sources;
  assert.deepEqual(others, []);
  assert.deepEqual([url.pathname, url.searchParams.get('token'), url.searchParams.get('table')], ['/events', 't&', 'orders']);
  assert.deepEqual(url.searchParams.getAll('key'), ['1', 'a&b', '2']);
  assert.deepEqual(set.take(), [{ live: false, table: 'orders' }]);
  const rows = [row(5, 1), { absent: ['a&b', 2], versions: [0, 0], table: 'orders' }];
  tell.call(set.sources[0], { epoch: 'one' }, ...rows, reply);
  assert.deepEqual(set.take(), [
    { epoch: 'one', table: 'orders' }, ...rows, { reply: 1, ok: true }, { reply: 2, ok: true }, { live: true, table: 'orders' },
  ]);
});

test('the key `*` alone is one row', async () => {
  const set = await opened();
  await set.subscribe(1, ['*']);
  assert.deepEqual(set.sources[0].url.searchParams.getAll('key'), ['*', '*']);
});

test("the epoch that counts is a table's own", async () => {
  const set = await opened();
  await set.subscribe(1, [1]);
  set.sources[0].tell({ live: false }, { epoch: 'all' }, { epoch: 'own', table: 'orders' }, row(5, 1), reply);
  const epochs = () => set.take().filter(({ epoch }) => epoch);
  assert.deepEqual(epochs(), [{ epoch: 'own', table: 'orders' }]);
  set.sources[0].tell({ epoch: 'next' });
  assert.deepEqual(epochs(), [{ epoch: 'next', table: 'orders' }]);
});

test('the source of a table is back once each of its streams says so', async () => {
  const set = await opened();
  await set.subscribe(1, Array.from({ length: 1000 }, (_, number) => `key ${number}`));
  assert.equal(set.sources.length, 2);
  const live = () => set.take().filter((frame) => frame.live !== undefined).map((frame) => frame.live);
  const [first, second] = set.sources;
  for (const source of set.sources) source.tell({ live: false }, { epoch: 'one' });
  first.tell(reply);
  first.tell({ live: true });
  assert.deepEqual(live(), [false]);
  second.tell(reply);
  assert.deepEqual(live(), [false]);
  second.tell({ live: true }, { live: false, table: 'orders' }, { live: true, table: 'orders' });
  assert.deepEqual(live(), [true, false, true]);
});

test('streams of a table that are of two epochs are left', async () => {
  const set = await opened();
  await set.subscribe(1, Array.from({ length: 1000 }, (_, number) => `key ${number}`));
  for (const source of set.sources) source.tell({ epoch: 'one' }, { absent: [], table: 'orders' });
  assert.deepEqual(set.closes, []);
  set.take();
  set.sources[0].tell({ epoch: 'two' });
  set.sources[1].tell(row(9, 'key 999'));
  assert.deepEqual([set.closes, set.take(), set.world.due], [[undefined], [], []]);
  assert.ok(set.sources.every(({ isClosed }) => isClosed));
});

test('more rows open the stream anew, and what it said late is not heard', async () => {
  const set = await opened();
  await set.subscribe(1, [1]);
  set.sources[0].tell({ epoch: 'one' }, row(5, 1), reply);
  set.take();
  await set.subscribe(2, [2]);
  const [old, next] = set.sources;
  assert.deepEqual([old.isClosed, next.url.searchParams.getAll('key')], [true, ['1', '2']]);
  old.tell(row(6, 1));
  assert.deepEqual(set.take(), [{ live: false, table: 'orders' }]);
  next.tell({ epoch: 'one' }, row(6, 1), row(7, 2), reply);
  assert.deepEqual(set.take().slice(-2), [{ reply: 2, ok: true }, { live: true, table: 'orders' }]);
});

test('what is ended stays until the next opening, and the last takes the stream along', async () => {
  const set = await opened();
  await set.subscribe(1, [1, 2]);
  await set.send({ command: 'unsubscribe', keys: [1], id: 2 });
  assert.deepEqual([set.sources.length, set.take().at(-1)], [1, { reply: 2, ok: true }]);
  await set.subscribe(3, [3]);
  assert.deepEqual(set.sources[1].url.searchParams.getAll('key'), ['2', '3']);
  await set.send({ command: 'unsubscribe', keys: '*', id: 4 });
  assert.deepEqual(set.sources.map(({ isClosed }) => isClosed), [true, true]);
  // Those that waited are answered.
  const answered = set.take().filter((frame) => frame.reply);
  assert.deepEqual(answered, [4, 1, 3].map((reply) => ({ reply, ok: true })));
  assert.deepEqual(set.world.due, []);
});

test('all of a table has what is named beside it', async () => {
  const set = await opened();
  await set.subscribe(1, '*');
  await set.subscribe(2, [1]);
  assert.deepEqual(set.sources.map(({ url }) => url.searchParams.getAll('key')), [['*']]);
  const replies = () => set.take().filter((frame) => frame.reply).map((frame) => [frame.reply, frame.ok]);
  assert.deepEqual(replies(), []);
  set.sources[0].tell({ epoch: 'one' }, row(5, 1), reply);
  assert.deepEqual(replies(), [[1, true], [2, true]]);
  await set.subscribe(3, [2]);
  assert.deepEqual([replies(), set.sources.length], [[[3, true]], 1]);
});

test('where all of a table is refused, what is named beside it is followed', async () => {
  const set = await opened();
  await set.send({ command: 'subscribe', keys: '*', id: 1 }, { command: 'subscribe', keys: [1], id: 2 });
  set.sources[0].tell({ reply: 'events', ok: false, code: 'too_many_rows', error: 'too many' });
  assert.deepEqual(set.take().at(-2), { reply: 1, ok: false, code: 'too_many_rows', error: 'too many' });
  assert.deepEqual(set.sources[1].url.searchParams.getAll('key'), ['1']);
  set.sources[1].tell({ epoch: 'one' }, row(5, 1), reply);
  assert.deepEqual(set.take().slice(-2), [{ reply: 2, ok: true }, { live: true, table: 'orders' }]);
});

test('a command is forbidden if one of its rows was not told', async () => {
  const set = await opened();
  await set.send({ command: 'subscribe', keys: [1, 2], id: 1 }, { command: 'subscribe', keys: [3], id: 2 });
  const refusal = { ok: false, code: 'forbidden', error: 'not 2' };
  set.sources[0].tell({ epoch: 'one' }, row(5, 1), { absent: [3], versions: [0], table: 'orders' }, { reply: 'events', ...refusal });
  assert.deepEqual(set.take().slice(-3), [{ reply: 1, ...refusal }, { reply: 2, ok: true }, { live: true, table: 'orders' }]);
  await set.subscribe(3, [4]);
  assert.deepEqual(set.sources[1].url.searchParams.getAll('key'), ['1', '3', '4']);
});

test('a stream that is not opened has its commands asked about, and the rest goes on', async () => {
  answers[`${ADDRESS}events?table=orders&key=bad`] = () => Response.json({ detail: 'no key' }, { status: 400 });
  answers[`${ADDRESS}events`] = () => new Response('data: {}');
  const set = await opened();
  await set.send({ command: 'subscribe', keys: [1], id: 1 }, { command: 'subscribe', keys: ['bad'], id: 2 });
  set.sources[0].onerror({});
  // Who comes meanwhile waits.
  await set.subscribe(3, [3]);
  await turn();
  assert.deepEqual(set.take().slice(1, 2), [{ reply: 2, ok: false, code: 'bad_keys', error: 'no key' }]);
  assert.deepEqual(set.sources.at(-1).url.searchParams.getAll('key'), ['1', '3']);
  assert.deepEqual(set.closes, []);
  // Nobody is to blame for the next.
  set.sources.at(-1).onerror({});
  await turn();
  assert.deepEqual([set.closes, set.world.due], [[undefined], []]);
});

test('what ends a stream ends all', async () => {
  for (const [end, code] of [
    [(source) => source.emit('close', '{"code":4401,"reason":"expired"}'), 4401], [(source) => source.onerror({}), undefined],
  ]) {
    const set = await opened();
    await set.subscribe(1, [1]);
    await set.subscribe(2, ['a'], 'notes');
    for (const source of set.sources) source.tell({ epoch: 'one' }, reply);
    end(set.sources[1]);
    await turn();
    assert.deepEqual([set.closes, set.sources.map(({ isClosed }) => isClosed), set.world.due], [[code], [true, true], []]);
  }
});

test('a stream is given up after a silence, which a ping ends', async () => {
  const set = await opened();
  await set.subscribe(1, [1]);
  set.sources[0].tell({ epoch: 'one' }, reply);
  await set.world.pass(50_000);
  set.take();
  set.sources[0].emit('ping');
  assert.deepEqual(set.take(), [{}], 'the client hears of it');
  await set.world.pass(59_999);
  assert.deepEqual(set.closes, []);
  await set.world.pass(1);
  assert.deepEqual(set.closes, [undefined]);
});

test('there are as many streams as a browser has room for', async () => {
  const keys = (from, count) => Array.from({ length: count }, (_, number) => `${'k'.repeat(90)}${from + number}`);
  const set = await opened();
  await set.subscribe(1, keys(0, 150));
  await set.subscribe(2, keys(0, 150), 'notes');
  assert.equal(set.sources.length, 4);
  set.take();
  await set.send({ command: 'subscribe', keys: keys(1000, 30), id: 3 }, { command: 'subscribe', keys: keys(2000, 200), id: 4 });
  assert.deepEqual(set.take().filter((frame) => frame.reply).map((frame) => [frame.reply, frame.code]), [[4, 'too_many_streams']]);
  assert.equal(set.sources.filter(({ isClosed }) => !isClosed).length, 5);
  assert.ok(set.sources.every(({ url }) => url.href.length <= 8000));
  answers['https://test/'] = () => new Response(null);
  const secure = await opened({ address: 'https://test/' });
  await secure.subscribe(1, keys(0, 1000));
  assert.ok(secure.sources.length > 5);
});

test('it answers whether anybody is there, and does nothing that it cannot', async () => {
  const set = await opened();
  await set.send({ command: 'subscribe', table: undefined, productIDs: [], id: 1 }, { command: 'authorize', token: 'x', id: 2 });
  assert.deepEqual(set.take().map((frame) => [frame.reply, frame.ok]), [[1, true], [2, false]]);
  answers = {};
  await set.send({ command: 'subscribe', productIDs: [], id: 3 });
  assert.deepEqual([set.take(), set.closes], [[], [undefined]]);
});
