import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delayMs } from '../../src/http/page/backoff.js';
import { CommandRefused, ConnectionLost, LiveConnection } from '../../src/http/page/connection.js';

// A connection whose sockets and clock the test holds.
function setUp() {
  const world = { sockets: [], timer: null, states: [], frames: [], errors: [], opens: 0, closes: 0 };
  class WebSocket {
    sent = [];
    closed = false;
    constructor() {
      world.sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.closed = true;
    }
    receive(frame) {
      this.onmessage({ data: JSON.stringify(frame) });
    }
  }
  const platform = {
    WebSocket,
    setTimeout: (run, ms) => (world.timer = { run, ms }),
    clearTimeout: (timer) => timer && timer === world.timer && (world.timer = null),
    random: () => 0,
    now: () => 1000,
  };
  const on = {
    state: (state) => world.states.push(state),
    open: () => (world.opens += 1),
    closed: () => (world.closes += 1),
    frame: (frame) => world.frames.push(frame),
    error: (text) => world.errors.push(text),
  };
  const connection = new LiveConnection('ws://test/websocket', on, { platform });
  connection.connect();
  return { world, connection, fire: () => world.timer.run(), socket: () => world.sockets.at(-1) };
}

function live({ connection, socket }) {
  socket().onopen();
  connection.become('live');
}

test('what it becomes while it is open is told once, and ends with it', () => {
  const set = setUp();
  set.connection.become('live');
  live(set);
  for (const state of ['stale', 'stale', 'live']) set.connection.become(state);
  set.socket().onclose({ code: 1006 });
  set.connection.become('live');
  assert.deepEqual(set.world.states, ['connecting', 'syncing', 'live', 'stale', 'live', 'waiting']);
});

test('frames reach whom they concern', async () => {
  const set = setUp();
  live(set);
  const done = set.connection.request({ command: 'subscribe', productIDs: [1] });
  const refused = set.connection.request({ command: 'subscribe', productIDs: [2] });
  const [first, second] = set.socket().sent;
  assert.deepEqual(first, { command: 'subscribe', productIDs: [1], id: first.id });
  set.socket().receive({ reply: second.id, ok: false, error: 'too many', code: 'x' });
  set.socket().receive({ reply: first.id, ok: true, subscribed: 1 });
  set.socket().receive({ action: 'DELETE', version: 3, product: { productId: 1 } });
  set.socket().receive({ skipped: 7 });
  set.socket().receive({ error: 'no', code: 'y' });
  set.socket().onmessage({ data: 'not JSON' });
  await done;
  await assert.rejects(refused, CommandRefused);
  assert.deepEqual(set.world.frames.filter((frame) => frame.action || frame.skipped), [
    { action: 'DELETE', version: 3, product: { productId: 1 } },
    { skipped: 7 },
  ]);
  assert.deepEqual(set.world.errors, ['no']);
});

test('a lost socket is replaced, and its open commands fail', async () => {
  const set = setUp();
  live(set);
  const lost = set.connection.request({ command: 'subscribe', productIDs: [1] });
  set.socket().onclose({ code: 1006 });
  await assert.rejects(lost, ConnectionLost);
  await assert.rejects(set.connection.request({}), ConnectionLost);
  assert.equal(set.world.timer.ms, 250);
  set.fire();
  assert.equal(set.world.sockets.length, 2);
  live(set);
  assert.equal(set.world.opens, 2);
  assert.equal(set.world.closes, 1);
  assert.equal(set.world.states.at(-1), 'live');
});

test('attempts wait longer until one is live, and a good moment does not wait', () => {
  const set = setUp();
  const waits = [];
  for (let i = 0; i < 3; i += 1) {
    set.socket().onclose({ code: 1006 });
    waits.push(set.world.timer.ms);
    set.fire();
  }
  assert.deepEqual(waits, [250, 500, 1000]);
  set.socket().onclose({ code: 1006 });
  set.connection.hurry();
  assert.equal(set.world.sockets.length, 5);
  live(set);
  set.socket().onclose({ code: 1006 });
  assert.equal(set.world.timer.ms, 250);
});

test('what comes from a socket that was given up is not heard', () => {
  const set = setUp();
  live(set);
  const old = set.socket();
  set.connection.abandon();
  assert.equal(old.closed, true);
  old.receive({ skipped: 1 });
  old.onclose({ code: 1006 });
  assert.deepEqual(set.world.frames, []);
  assert.equal(set.world.states.filter((state) => state === 'waiting').length, 1);
});

test('a silent connection is asked, and left when it does not answer', () => {
  const set = setUp();
  live(set);
  set.fire();
  assert.deepEqual(set.socket().sent[0].productIDs, []);
  set.socket().receive({ reply: set.socket().sent[0].id, ok: true, subscribed: 0 });
  set.fire();
  set.fire();
  assert.equal(set.world.states.at(-1), 'waiting');
});

test('a connection that owes an answer is not asked for another, and is given more time', () => {
  const set = setUp();
  live(set);
  set.connection.request({ command: 'subscribe', productIDs: '*' }).catch(() => {});
  assert.equal(set.world.timer.ms, 60_000);
  set.socket().receive({ absent: [1], versions: [0] });
  assert.equal(set.world.timer.ms, 60_000);
  set.connection.hurry();
  assert.equal(set.socket().sent.length, 1);
  set.socket().receive({ reply: set.socket().sent[0].id, ok: true, subscribed: 1 });
  assert.equal(set.world.timer.ms, 30_000);
  set.connection.request({ command: 'subscribe', productIDs: '*' }).catch(() => {});
  set.fire();
  assert.equal(set.world.states.at(-1), 'waiting');
});

test('a socket that does not open is given up', () => {
  const set = setUp();
  set.fire();
  assert.equal(set.socket().closed, true);
  assert.equal(set.world.states.at(-1), 'waiting');
});

test('the time that the server names is obeyed, for one reconnect', () => {
  const set = setUp();
  live(set);
  set.socket().receive({ reconnect: { afterMs: 3210 } });
  set.socket().onclose({ code: 1012 });
  assert.equal(set.world.timer.ms, 3210);
  set.fire();
  set.socket().onclose({ code: 1006 });
  assert.equal(set.world.timer.ms, 500);
});

test('the delay doubles from half a second to ten, half of it chance', () => {
  const delays = (random) => [0, 1, 2, 3, 4, 5, 50].map((attempt) => delayMs({ attempt }, random));
  assert.deepEqual(delays(0), [250, 500, 1000, 2000, 4000, 5000, 5000]);
  assert.deepEqual(delays(1), [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
});

test('a restarting server is back soon', () => {
  assert.equal(delayMs({ attempt: 0, closeCode: 1012 }, 0), 100);
  assert.equal(delayMs({ attempt: 0, closeCode: 1012 }, 1), 600);
  assert.equal(delayMs({ attempt: 3, closeCode: 1012 }, 0), 2000);
});
