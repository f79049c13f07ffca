import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandRefused, ConnectionLost } from '../../src/http/page/connection.js';
import { Follower } from '../../src/http/page/follower.js';
import { Replica } from '../../src/http/page/replica.js';

function product(productId, unitsAvailable = 1) {
  return { productId, productName: 'n', manufacturer: 'm', pricePerUnit: '1', unitsAvailable };
}

// A connection and a clock that the test holds, and what the follower says of itself.
function setUp({ losesChanges = false } = {}) {
  const world = { commands: [], states: [], told: [], timer: null, now: 1_000_000, abandoned: 0 };
  const connection = {
    request: (command) =>
      new Promise((resolve, reject) => {
        world.commands.push(command);
        world.reply = async (error) => {
          if (error) reject(error);
          else resolve();
          await settled();
        };
      }),
    become: (state) => world.states.at(-1) !== state && world.states.push(state),
    abandon: () => (world.abandoned += 1),
  };
  const platform = {
    setTimeout: (run, ms) => (world.timer = { run, ms }),
    clearTimeout: () => (world.timer = null),
    now: () => world.now,
  };
  const on = {
    change: (action) => world.told.push(action),
    skipped: (count) => world.told.push(count),
    complete: () => world.told.push('complete'),
    refused: (text) => world.told.push(text),
  };
  const replica = new Replica();
  const follower = new Follower(connection, replica, on, { losesChanges, platform });
  const row = (version, id, action = 'SNAPSHOT') => follower.take({ action, version, product: product(id) });
  return { world, replica, follower, row, losesChanges, state: () => world.states.at(-1) };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

async function live(set) {
  set.follower.opened();
  set.follower.take({ epoch: 'one' });
  set.row(5, 1);
  await set.world.reply();
  return set;
}

const ASK = { command: 'subscribe', productIDs: '*', snapshot: true };

test('it asks for everything, and is live when the answer is whole', async () => {
  const set = setUp();
  set.follower.opened();
  assert.deepEqual(set.world.commands, [ASK]);
  set.follower.take({ epoch: 'one' });
  set.row(5, 1);
  set.row(6, 2, 'UPDATE');
  assert.deepEqual(set.world.states, ['syncing']);
  await set.world.reply();
  assert.deepEqual(set.world.states, ['syncing', 'live']);
  assert.deepEqual(set.world.told, ['complete']);
  set.row(7, 2, 'UPDATE');
  set.row(8, 3);
  assert.deepEqual(set.world.told, ['complete', 'UPDATE']);
  assert.equal(set.replica.size, 3);
});

test('a new connection asks again, with what is known, and drops what it does not name', async () => {
  const set = await live(setUp());
  set.row(9, 2, 'INSERT');
  set.follower.closed();
  set.follower.opened();
  assert.deepEqual(set.world.commands.at(-1), { ...ASK, epoch: 'one', newest: 9 });
  set.row(9, 2);
  assert.equal(set.replica.size, 2);
  assert.equal(set.state(), 'syncing');
  await set.world.reply();
  assert.equal(set.state(), 'live');
  assert.deepEqual([...set.replica.rows()].map((each) => each.productId), [2]);
});

test('the answer to a question of a lost connection makes nothing live', async () => {
  const set = setUp();
  set.follower.opened();
  const { reply } = set.world;
  set.row(5, 1);
  set.follower.closed();
  set.follower.opened();
  await reply();
  assert.deepEqual(set.world.states, ['syncing']);
  assert.deepEqual(set.world.told, []);
  await set.world.reply(new ConnectionLost());
  assert.deepEqual(set.world.states, ['syncing']);
});

test('while the source is lost nothing is live, answered or not', async () => {
  const set = await live(setUp());
  set.follower.take({ live: false });
  assert.equal(set.state(), 'stale');
  set.follower.take({ live: true });
  assert.equal(set.state(), 'live');

  set.follower.closed();
  set.follower.opened();
  set.follower.take({ live: false });
  await set.world.reply();
  assert.equal(set.state(), 'stale');
  set.follower.take({ live: true });
  assert.equal(set.state(), 'live');
});

test('a source that is back makes nothing live while an answer is due', async () => {
  const set = setUp();
  set.follower.opened();
  set.follower.take({ live: false });
  set.follower.take({ live: true });
  assert.equal(set.state(), 'syncing');
  set.follower.take({ live: false });
  set.follower.closed();
  set.follower.opened();
  await set.world.reply();
  assert.equal(set.state(), 'live');
});

test('absent products go', async () => {
  const set = await live(setUp());
  set.follower.take({ absent: [1], versions: [7] });
  assert.equal(set.replica.size, 0);
});

test('an epoch that begins under way has everything asked for anew, without what is known', async () => {
  const set = await live(setUp());
  set.world.now += 60_000;
  set.follower.take({ epoch: 'two' });
  assert.equal(set.state(), 'syncing');
  assert.equal(set.world.timer.ms, 0);
  set.world.timer.run();
  assert.deepEqual(set.world.commands.at(-1), ASK);
  set.row(1, 2);
  await set.world.reply();
  assert.equal(set.state(), 'live');
  assert.deepEqual([...set.replica.rows()].map((each) => each.productId), [2]);
});

test('an epoch that begins within an answer has it asked for once more', async () => {
  const set = setUp();
  set.follower.opened();
  set.follower.take({ epoch: 'one' });
  set.row(5, 1);
  set.follower.take({ epoch: 'two' });
  set.row(2, 2);
  await set.world.reply();
  assert.equal(set.state(), 'syncing');
  set.world.timer.run();
  set.row(2, 2);
  await set.world.reply();
  assert.equal(set.state(), 'live');
  assert.equal(set.world.commands.length, 2);
});

test('skipped changes are counted, and nothing is asked where their newest state comes', async () => {
  const set = await live(setUp());
  set.follower.take({ skipped: 12 });
  assert.deepEqual(set.world.told, ['complete', 12]);
  assert.equal(set.state(), 'live');
  assert.equal(set.world.commands.length, 1);
});

test('where skipped changes never come, everything is asked for anew, with a pause between', async () => {
  const set = await live(setUp({ losesChanges: true }));
  set.world.now += 1000;
  set.follower.take({ skipped: 12 });
  set.follower.take({ skipped: 1 });
  assert.equal(set.state(), 'syncing');
  assert.equal(set.world.timer.ms, 2000);
  set.world.timer.run();
  set.row(5, 1);
  set.follower.take({ skipped: 3 });
  await set.world.reply();
  assert.equal(set.state(), 'syncing');
  assert.equal(set.world.timer.ms, 3000);
  set.world.timer.run();
  set.row(5, 1);
  await set.world.reply();
  assert.equal(set.state(), 'live');
  assert.equal(set.world.commands.length, 3);
});

test('a refusal is told, and the connection is tried again after a while', async () => {
  const set = setUp();
  set.follower.opened();
  await set.world.reply(new CommandRefused('too many', 'too_many_rows'));
  assert.equal(set.state(), 'refused');
  assert.deepEqual(set.world.told, ['too many']);
  set.follower.take({ live: true });
  assert.equal(set.state(), 'refused');
  set.world.timer.run();
  assert.equal(set.world.abandoned, 1);
  set.follower.closed();
  set.follower.opened();
  assert.equal(set.state(), 'syncing');
});

// Whatever is lost, overtaken or broken off, a replica that is said to be live is the store.
test('in any history a replica that is live is the store', async () => {
  for (let seed = 1; seed <= 150; seed += 1) await history(generator(seed));
});

async function history(random) {
  const set = setUp({ losesChanges: random() < 0.5 });
  const server = new Miniature(set, random);
  for (let step = 0; step < 80; step += 1) await server.step();
  await server.rest();
  assert.equal(set.state(), 'live');
  server.assertCurrent();
}

// A server in miniature: a store, its source, and one connection whose frames wait until they are delivered.
class Miniature {
  #set;
  #random;
  #rows = new Map();
  #version = 0;
  #epochs = 1;
  #isOpen = false;
  #isLost = false;
  #frames = [];
  #answered = 0;
  #missed = new Set();

  constructor(set, random) {
    this.#set = set;
    this.#random = random;
  }

  async step() {
    const choice = this.#random();
    if (choice < 0.35) this.#write();
    else if (choice < 0.7) await this.#deliver();
    else if (choice < 0.78) this.#connect();
    else if (choice < 0.84) this.#loseSource();
    else if (choice < 0.92) this.#healSource();
    else if (choice < 0.96) this.#loseChange();
    else this.#beginEpoch();
    this.#answer();
    if (this.#set.state() === 'live' && this.#frames.length === 0) this.assertCurrent();
  }

  // Until nothing is due.
  async rest() {
    this.#healSource();
    if (!this.#isOpen) this.#connect();
    do {
      this.#answer();
      while (this.#frames.length > 0) await this.#deliver();
      const { timer } = this.#set.world;
      this.#set.world.timer = null;
      this.#set.world.now += 10_000;
      timer?.run();
      this.#answer();
    } while (this.#frames.length > 0);
  }

  assertCurrent() {
    const known = [...this.#set.replica.rows()].map(({ productId, version }) => [productId, version]);
    const stored = [...this.#rows].map(([id, row]) => [id, row.version]);
    const byId = ([one], [other]) => one - other;
    assert.deepEqual(known.sort(byId), stored.sort(byId));
  }

  #write() {
    const id = Math.floor(this.#random() * 4);
    const version = (this.#version += 1);
    const exists = this.#rows.has(id);
    const action = !exists ? 'INSERT' : this.#random() < 0.4 ? 'DELETE' : 'UPDATE';
    if (action === 'DELETE') this.#rows.delete(id);
    else this.#rows.set(id, { version, product: product(id, version) });
    if (this.#isLost) this.#missed.add(id);
    else this.#say({ action, version, product: product(id, version) });
  }

  // The connection breaks, if there is one, and is opened anew.
  #connect() {
    if (this.#isOpen) this.#set.follower.closed();
    this.#isOpen = true;
    this.#frames = [{ epoch: `epoch ${this.#epochs}` }];
    if (this.#isLost) this.#say({ live: false });
    this.#set.follower.opened();
  }

  // Answers the questions that were asked since.
  #answer() {
    for (; this.#answered < this.#set.world.commands.length; this.#answered += 1) {
      for (const row of this.#rows.values()) this.#say({ action: 'SNAPSHOT', ...row });
      this.#say({ reply: this.#set.world.reply });
    }
  }

  #loseSource() {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#say({ live: false });
  }

  #healSource() {
    if (!this.#isLost) return;
    for (const id of this.#missed) {
      if (this.#rows.has(id)) this.#say({ action: 'SNAPSHOT', ...this.#rows.get(id) });
      else this.#say({ absent: [id], versions: [this.#random() < 0.5 ? 0 : this.#version] });
    }
    this.#missed.clear();
    this.#isLost = false;
    this.#say({ live: true });
  }

  // A change that waits gives way: to the product's newest state, or to nothing.
  #loseChange() {
    const place = this.#frames.findIndex(({ action }) => action !== undefined && action !== 'SNAPSHOT');
    if (place < 0) return;
    const [{ product: lost }] = this.#frames.splice(place, 1);
    this.#frames.splice(place, 0, { skipped: 1 });
    if (this.#losesChanges) return;
    const row = this.#rows.get(lost.productId);
    this.#say(row ? { action: 'UPDATE', ...row } : { action: 'DELETE', version: this.#version, product: lost });
  }

  // An older dump is restored: versions begin again, and every row is told.
  #beginEpoch() {
    this.#epochs += 1;
    this.#version = 0;
    for (const [id, row] of this.#rows) this.#rows.set(id, { ...row, version: (this.#version += 1) });
    if (this.#rows.size > 0) this.#rows.delete([...this.#rows.keys()][0]);
    this.#frames = this.#frames.filter(({ action, absent }) => action === undefined && absent === undefined);
    this.#say({ epoch: `epoch ${this.#epochs}` });
    for (const row of this.#rows.values()) this.#say({ action: 'SNAPSHOT', ...row });
  }

  get #losesChanges() {
    return this.#set.losesChanges;
  }

  #say(frame) {
    if (this.#isOpen) this.#frames.push(frame);
  }

  async #deliver() {
    const frame = this.#frames.shift();
    if (frame?.reply) await frame.reply();
    else if (frame) this.#set.follower.take(frame);
  }
}

function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
