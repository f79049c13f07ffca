import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delayMs } from '../backoff.js';
import { Connection } from '../connection.js';
import { turn, World } from './world.mjs';

function setUp({ token, open } = {}) {
  const world = new World();
  const told = { states: [], frames: [], errors: [], opens: 0, closes: [] };
  const on = {
    state: () => told.states.push(connection.state),
    open: () => (told.opens += 1),
    closed: (code) => told.closes.push(code),
    frame: (frame) => told.frames.push(frame),
    error: (error) => told.errors.push(error.message),
  };
  const connection = new Connection({
    open: open ?? ((given) => new world.WebSocket('', given)), token, on, parse: JSON.parse, silenceMs: 30_000, ...world.platform,
  });
  connection.connect();
  return { world, connection, told };
}

function live({ connection, world }) {
  world.socket.onopen();
  connection.settled();
}

test('frames reach whom they concern', () => {
  const set = setUp();
  live(set);
  const answers = [];
  set.connection.request({ command: 'subscribe', productIDs: [1] }, (error) => answers.push(['first', error]));
  set.connection.request({ command: 'subscribe', productIDs: [2] }, (error) => answers.push(['second', error]));
  const [first, second] = set.world.socket.sent;
  assert.deepEqual(first, { command: 'subscribe', productIDs: [1], id: first.id });
  set.world.socket.receive({ reply: second.id, ok: false, error: 'too many', code: 'x' });
  set.world.socket.receive({ reply: first.id, ok: true, subscribed: 1 });
  set.world.socket.receive({ action: 'DELETE', version: 3, product: { productId: 1 } });
  set.world.socket.receive({ skipped: 7 });
  set.world.socket.onmessage({ data: 'not JSON' });
  assert.deepEqual(answers, [['second', { reply: second.id, ok: false, error: 'too many', code: 'x' }], ['first', null]]);
  assert.deepEqual(set.told.frames.filter((frame) => frame.action || frame.skipped), [
    { action: 'DELETE', version: 3, product: { productId: 1 } },
    { skipped: 7 },
  ]);
});

test('a lost socket is replaced, and its open commands are never answered', async () => {
  const set = setUp();
  live(set);
  set.connection.request({ command: 'subscribe', productIDs: [1] }, () => assert.fail('nobody answered'));
  const old = set.world.socket;
  old.onclose({ code: 1006 });
  assert.deepEqual(set.world.due, [250]);
  assert.equal(set.connection.retryAt, set.world.now + 250);
  await set.world.pass(250);
  assert.equal(set.world.sockets.length, 2);
  live(set);
  set.world.socket.receive({ reply: 1, ok: true });
  assert.deepEqual(set.told.states, ['connecting', 'open', 'waiting', 'connecting', 'open']);
  assert.deepEqual([set.told.opens, set.told.closes], [2, [1006]]);
});

test('attempts wait longer until one is live, and a good moment does not wait', async () => {
  const set = setUp();
  const waits = [];
  for (let i = 0; i < 3; i += 1) {
    set.world.socket.onclose({ code: 1006 });
    waits.push(...set.world.due);
    await set.world.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [250, 500, 1000]);
  set.world.socket.onclose({ code: 1006 });
  set.connection.hurry();
  assert.equal(set.world.sockets.length, 5);
  live(set);
  set.world.socket.onclose({ code: 1006 });
  assert.deepEqual(set.world.due, [250]);
});

test('what comes from a socket that was given up is not heard', async () => {
  const set = setUp();
  live(set);
  const old = set.world.socket;
  old.onclose({ code: 1006 });
  assert.equal(old.isClosed, true);
  old.receive({ skipped: 1 });
  old.onopen();
  old.onclose({ code: 1006 });
  assert.deepEqual(set.told.frames, []);
  assert.deepEqual(set.told.states, ['connecting', 'open', 'waiting']);
});

test('a silent connection is asked, and left when it does not answer', async () => {
  const set = setUp();
  live(set);
  await set.world.pass(30_000);
  assert.deepEqual(set.world.socket.sent[0].productIDs, []);
  set.world.socket.accept();
  await set.world.pass(30_000);
  assert.equal(set.connection.state, 'open');
  await set.world.pass(10_000);
  assert.equal(set.connection.state, 'waiting');
});

test('a connection that owes an answer is not asked for another, and is given more time', async () => {
  const set = setUp();
  live(set);
  set.connection.request({ command: 'subscribe', productIDs: '*' }, () => {});
  assert.deepEqual(set.world.due, [60_000]);
  set.world.socket.receive({ absent: [1], versions: [0] });
  set.connection.hurry();
  assert.equal(set.world.socket.sent.length, 1);
  assert.deepEqual(set.world.due, [60_000]);
  set.world.socket.accept();
  assert.deepEqual(set.world.due, [30_000]);
  set.connection.request({ command: 'subscribe', productIDs: '*' }, () => {});
  await set.world.pass(60_000);
  assert.equal(set.connection.state, 'waiting');
});

test('a socket that does not open is given up', async () => {
  const set = setUp();
  await set.world.pass(10_000);
  assert.equal(set.world.socket.isClosed, true);
  assert.equal(set.connection.state, 'waiting');
});

test('the time that the server names is obeyed, for one reconnect', async () => {
  const set = setUp();
  live(set);
  set.world.socket.receive({ reconnect: { afterMs: 3210 } });
  set.world.socket.onclose({ code: 1012 });
  assert.deepEqual(set.world.due, [3210]);
  await set.world.pass(3210);
  set.world.socket.onclose({ code: 1006 });
  assert.deepEqual(set.world.due, [500]);
});

test('a closed connection has no timer and no socket, and stays closed', async () => {
  const set = setUp();
  live(set);
  set.connection.close();
  assert.deepEqual(set.world.due, []);
  assert.equal(set.world.socket.isClosed, true);
  set.world.socket.onclose({ code: 1000 });
  set.connection.hurry();
  assert.deepEqual([set.connection.state, set.world.due, set.world.sockets.length], ['closed', [], 1]);
});

test('a token is asked for, kept as long as it is good, and asked for anew when it may not be', async () => {
  let number = 0;
  const set = setUp({ token: async () => `token ${(number += 1)}` });
  await turn();
  live(set);
  // A loss of another kind says nothing of the token.
  set.world.socket.onclose({ code: 1006 });
  await set.world.pass(250);
  live(set);
  assert.deepEqual(set.world.sockets.map(({ protocols }) => protocols), ['token 1', 'token 1']);
  // It has expired: the next one is asked for at once.
  set.world.socket.onclose({ code: 4401 });
  assert.deepEqual(set.world.due, [0]);
  await set.world.pass(0);
  assert.equal(set.world.socket.protocols, 'token 2');
  // A socket that does not open may be refused for its token.
  set.world.socket.onclose({ code: 1006 });
  await set.world.pass(500);
  assert.equal(set.world.socket.protocols, 'token 3');
  // An expired token again and again is waited with like any other loss.
  set.world.socket.onopen();
  set.world.socket.onclose({ code: 4401 });
  assert.deepEqual(set.world.due, [1000]);
});

test('a token that cannot be had is told, and asked for again later', async () => {
  const answers = [new Error('offline'), 'token'];
  const set = setUp({
    token: () => {
      const answer = answers.shift();
      if (answer instanceof Error) throw answer;
      return answer;
    },
  });
  await turn();
  assert.deepEqual([set.told.errors, set.connection.state, set.world.due], [['offline'], 'waiting', [250]]);
  await set.world.pass(250);
  assert.equal(set.world.socket.protocols, 'token');
});

test('a token that comes after its attempt was given up opens nothing', async () => {
  const waiting = [];
  const set = setUp({ token: () => new Promise((resolve) => waiting.push(resolve)) });
  await set.world.pass(10_000);
  assert.equal(set.connection.state, 'waiting');
  waiting[0]('late');
  await turn();
  assert.equal(set.world.sockets.length, 0);
});

test('a socket that cannot be made is told, and tried again', async () => {
  const set = setUp({ open: () => { throw new SyntaxError('no such subprotocol'); } });
  assert.deepEqual([set.told.errors, set.connection.state], [['no such subprotocol'], 'waiting']);
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
