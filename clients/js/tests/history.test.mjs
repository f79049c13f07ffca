// Random histories of a server in miniature under a client: whatever is lost, overtaken, refused or broken off, rows that
// are said to be live are those of the store.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generator, turn, World } from './world.mjs';

const HISTORIES = Number(process.env.ROWCAST_HISTORIES ?? 200);
const FIRST = Number(process.env.ROWCAST_HISTORY ?? 1);
const STEPS = 120;
const REST_SECONDS = 100;
const TABLES = ['products', 'orders'];
const KEYS = [0, 1, 2, 3];

test('in any history rows that are live are those of the store', async (t) => {
  for (let seed = FIRST; seed < FIRST + HISTORIES; seed += 1) await history(t, seed);
});

async function history(t, seed) {
  const random = generator(seed * 7919);
  const world = new World();
  const losesChanges = random() < 0.3;
  const client = world.connect({ losesChanges });
  client.on('error', () => {});
  const server = new Miniature(world, random, losesChanges);
  const readers = new Readers(client, random, server);
  world.watch = (command) => assertResumes(client, command, `seed ${seed}`);
  const assertCurrent = () => readers.assertCurrent(server, `seed ${seed}`);
  try {
    for (let step = 0; step < STEPS; step += 1) {
      if (random() < 0.1) readers.change();
      await server.step();
      if (server.isQuiet) assertCurrent();
    }
    readers.recover();
    await server.rest();
    assert.equal(client.state, 'live', `seed ${seed}`);
    readers.assertWhole(server, `seed ${seed}`);
  } finally {
    client.close();
  }
}

// What a client knows it does not ask for again: it sends the versions, or the newest of them, and of which epoch they are.
function assertResumes(client, { command, table = 'products', productIDs, keys = productIDs, versions, epoch, newest = 0 }, message) {
  if (command !== 'subscribe') return;
  const known = [...client.rows(table, keys)].filter(({ version }) => version > 0);
  const what = `${message}: ${table} ${keys}`;
  if (known.length > 0) assert.ok(epoch, what);
  for (const { key, version } of known) {
    if (keys === '*') assert.ok(newest >= version, what);
    else assert.equal(versions[keys.indexOf(key)], version, what);
  }
}

// Subscribers that come and go, some of whom fail; each keeps what it was told.
class Readers {
  #client;
  #random;
  #server;
  #all = [];
  faults = [];

  constructor(client, random, server) {
    this.#client = client;
    this.#random = random;
    this.#server = server;
    for (let i = 0; i < 3; i += 1) this.#begin();
  }

  change() {
    if (this.#all.length > 2 && this.#random() < 0.5) this.#end();
    else this.#begin();
  }

  recover() {
    for (const reader of this.#all) reader.failing = false;
  }

  #begin() {
    const table = TABLES[Math.floor(this.#random() * TABLES.length)];
    const keys = this.#random() < 0.4 ? '*' : KEYS.filter(() => this.#random() < 0.5);
    const reader = { table, keys, rows: new Map(), newest: new Map(), isComplete: false, due: new Set(), failing: this.#random() < 0.3 };
    const change = ({ key, row, version }) => {
      if (reader.failing && this.#random() < 0.3) {
        reader.due.add(key);
        throw new Error('a handler that fails');
      }
      reader.due.delete(key);
      this.#look(reader, key, version);
      if (row) reader.rows.set(key, { row, version });
      else reader.rows.delete(key);
    };
    reader.end = this.#client.subscribe({ table, keys }, { change, complete: () => (reader.isComplete = true) });
    this.#all.push(reader);
  }

  // A reader is told no version below one that it was told in the same epoch, of a row or of its absence.
  #look(reader, key, version) {
    const epochs = this.#server.epochsDelivered(reader.table);
    const last = reader.newest.get(key);
    if (last?.epochs === epochs && version > 0 && version < last.version) this.faults.push(`${reader.table} ${key}: ${version} after ${last.version}`);
    if (version > 0) reader.newest.set(key, { epochs, version });
  }

  #end() {
    const [reader] = this.#all.splice(Math.floor(this.#random() * this.#all.length), 1);
    reader.end();
  }

  // A reader of a table that is live was told what the store has, but of rows on which it failed.
  assertCurrent(server, message) {
    assert.deepEqual(this.faults, [], message);
    for (const reader of this.#all) {
      if (!reader.isComplete || !this.#client.isLive(reader.table)) continue;
      for (const key of reader.keys === '*' ? KEYS : reader.keys) {
        const stored = server.row(reader.table, key);
        const what = `${message}: ${reader.table} ${key} of ${reader.keys}`;
        if (!reader.due.has(key)) assert.deepEqual(reader.rows.get(key)?.row, stored, what);
        assert.deepEqual(this.#client.get(reader.table, key), stored, what);
      }
    }
  }

  assertWhole(server, message) {
    for (const reader of this.#all) {
      assert.ok(reader.isComplete, message);
      assert.deepEqual([...reader.due], [], message);
    }
    this.assertCurrent(server, message);
  }
}

// A server in miniature: a store, its source, and one connection whose frames wait until they are delivered.
class Miniature {
  #world;
  #random;
  #losesChanges;
  #tables = new Map(TABLES.map((name) => [name, { rows: new Map(), gone: new Map(), epoch: 'one', isLost: false, missed: new Set() }]));
  #version = 0;
  #epochs = 1;
  #epoch = 'one';
  // The epochs that the connection was told, and what it follows.
  #toldEpochs = new Map();
  #follows = new Map();
  #isLost = false;
  #frames = [];
  #socket = null;
  // What the client was told: the epoch of all, and how often another one of each table.
  #deliveredOfAll = null;
  #delivered = new Map(TABLES.map((name) => [name, { epoch: null, count: 0 }]));

  constructor(world, random, losesChanges) {
    this.#world = world;
    this.#random = random;
    this.#losesChanges = losesChanges;
  }

  row(table, key) {
    return this.#tables.get(table).rows.get(key)?.row;
  }

  get isQuiet() {
    return this.#socket !== null && this.#frames.length === 0 && this.#socket.sent.length === 0;
  }

  async step() {
    const choice = this.#random();
    if (choice < 0.35) this.#write();
    else if (choice < 0.7) for (let left = this.#random() * 5; left > 0; left -= 1) this.#deliver();
    else if (choice < 0.76) this.#connect();
    else if (choice < 0.8) this.#lose();
    else if (choice < 0.9) this.#heal();
    else if (choice < 0.94) this.#loseChange();
    else if (choice < 0.97) this.#beginEpoch();
    else await this.#world.pass(this.#random() * 4000);
    await turn();
    this.#answer();
  }

  // Until nothing is due, however long that takes.
  async rest() {
    while (this.#heal());
    for (let second = 0; second < REST_SECONDS; second += 1) {
      if (this.#socket === null) this.#connect();
      this.#answer();
      while (this.#frames.length > 0) this.#deliver();
      await this.#world.pass(1000);
      await turn();
    }
    this.#answer();
    while (this.#frames.length > 0) this.#deliver();
  }

  #write() {
    const name = TABLES[Math.floor(this.#random() * TABLES.length)];
    const key = KEYS[Math.floor(this.#random() * KEYS.length)];
    const { rows, gone, isLost, missed } = this.#tables.get(name);
    const version = (this.#version += 1);
    const action = !rows.has(key) ? 'INSERT' : this.#random() < 0.4 ? 'DELETE' : 'UPDATE';
    const row = name === 'products' ? { productId: key, productName: `v${version}` } : { n: version };
    const before = rows.get(key);
    gone.delete(key);
    if (action !== 'DELETE') rows.set(key, { version, row, before });
    else if (rows.delete(key)) gone.set(key, { version, row, before });
    if (this.#isLost || isLost) missed.add(key);
    else if (this.#isFollowed(name, key)) this.#say(told(name, action, version, key, row));
  }

  #isFollowed(name, key) {
    return this.#follows.get(name)?.has(key) || this.#follows.get(name)?.has('*');
  }

  // The connection breaks, if there is one, and is opened anew.
  #connect() {
    if (this.#socket !== null) this.#socket.onclose({ code: 1006 });
    this.#frames = [];
    this.#toldEpochs.clear();
    this.#follows.clear();
    const { socket } = this.#world;
    if (socket.isClosed) return void (this.#socket = null);
    this.#socket = socket;
    socket.onopen();
  }

  // Answers the commands that were sent since.
  #answer() {
    if (this.#socket === null || this.#socket.isClosed) return void (this.#socket = null);
    for (const command of this.#socket.sent.splice(0)) this.#carryOut(command);
  }

  #carryOut({ command, id, table = 'products', productIDs, keys = productIDs, versions, epoch, newest = 0 }) {
    const followed = this.#follows.get(table) ?? new Set();
    this.#follows.set(table, followed);
    const { rows } = this.#tables.get(table);
    if (command === 'unsubscribe') {
      if (keys === '*') followed.clear();
      else for (const key of keys) followed.delete(key);
    } else if (this.#random() < 0.03 && keys.length > 0) {
      return this.#say({ reply: id, ok: false, code: 'too_many_subscriptions', error: 'too many' });
    } else if (keys.length > 0) {
      this.#tellEpoch(table);
      if (this.#isLost) this.#say({ live: false });
      if (this.#tables.get(table).isLost) this.#say({ live: false, table });
      const asked = keys === '*' ? [...rows.keys()] : keys;
      for (const key of keys === '*' ? ['*'] : keys) followed.add(key);
      // A server that lags tells of rows as they were, and then what has become of them.
      const lags = keys === '*' && !this.#isLost && !this.#tables.get(table).isLost && this.#random() < 0.3;
      if (lags) this.#tellEarlier(table);
      assert.ok(epoch !== this.#tables.get(table).epoch || newest <= this.#version, 'a version that never was');
      for (const [place, key] of asked.entries()) {
        const isKnown = epoch === this.#tables.get(table).epoch && versions?.[place] > 0;
        this.#tellState(table, key, isKnown ? versions[place] : 0);
      }
    }
    this.#say({ reply: id, ok: true });
  }

  #tellEpoch(name) {
    const { epoch } = this.#tables.get(name);
    if (!this.#toldEpochs.has('')) this.#say({ epoch: this.#epoch });
    this.#toldEpochs.set('', this.#epoch);
    if ((this.#toldEpochs.get(name) ?? this.#epoch) === epoch) return;
    this.#toldEpochs.set(name, epoch);
    this.#say({ epoch, table: name });
  }

  #tellEarlier(name) {
    const { rows, gone } = this.#tables.get(name);
    for (const [key, { version, before }] of [...rows, ...gone]) {
      if (before) this.#say(told(name, 'SNAPSHOT', before.version, key, before.row));
      else if (version > 1) this.#say(absent(name, key, version - 1));
    }
    for (const [key, { version, row }] of gone) this.#say(told(name, 'DELETE', version, key, row));
  }

  #tellState(name, key, known) {
    const stored = this.#tables.get(name).rows.get(key);
    if (stored && stored.version > known) this.#say(told(name, 'SNAPSHOT', stored.version, key, stored.row));
    else if (!stored) this.#say(absent(name, key, this.#random() < 0.5 ? 0 : this.#version));
  }

  // The source of all tables is lost, or that of one.
  #lose() {
    if (this.#random() < 0.5) {
      this.#isLost = true;
      return this.#say({ live: false });
    }
    const name = TABLES[Math.floor(this.#random() * TABLES.length)];
    this.#tables.get(name).isLost = true;
    if (this.#follows.has(name)) this.#say({ live: false, table: name });
  }

  // Returns false if nothing was lost.
  #heal() {
    const lost = TABLES.filter((name) => this.#tables.get(name).isLost);
    if (lost.length > 0) {
      this.#tables.get(lost[0]).isLost = false;
      if (!this.#isLost) this.#tellMissed(lost[0]);
      if (this.#follows.has(lost[0])) this.#say({ live: true, table: lost[0] });
      return true;
    }
    if (!this.#isLost) return false;
    this.#isLost = false;
    for (const name of TABLES) this.#tellMissed(name);
    this.#say({ live: true });
    return true;
  }

  #tellMissed(name) {
    const { missed } = this.#tables.get(name);
    for (const key of missed) if (this.#isFollowed(name, key)) this.#tellState(name, key, 0);
    missed.clear();
  }

  // A change that waits gives way: to the row's newest state, or to nothing.
  #loseChange() {
    const place = this.#frames.findIndex(({ action }) => action !== undefined && action !== 'SNAPSHOT');
    if (place < 0) return;
    const [{ table = 'products', key, product }] = this.#frames.splice(place, 1, { skipped: 1 });
    if (!this.#losesChanges) this.#tellState(table, key ?? product.productId, 0);
  }

  // An older dump of one table, or of all, is restored: versions begin again, and every row is told.
  #beginEpoch() {
    const isOfAll = this.#random() < 0.5;
    const names = isOfAll ? TABLES : [TABLES[Math.floor(this.#random() * TABLES.length)]];
    const epoch = `epoch ${(this.#epochs += 1)}`;
    if (isOfAll) [this.#version, this.#epoch] = [0, epoch];
    for (const name of names) {
      const table = this.#tables.get(name);
      table.epoch = epoch;
      for (const [key, { row }] of table.rows) table.rows.set(key, { row, version: (this.#version += 1) });
      table.rows.delete([...table.rows.keys()][0]);
      table.gone.clear();
      this.#frames = this.#frames.filter((frame) => !isRow(frame) || (frame.table ?? 'products') !== name);
    }
    if (this.#toldEpochs.has('')) this.#say(isOfAll ? { epoch } : { epoch, table: names[0] });
    if (isOfAll && this.#toldEpochs.has('')) this.#toldEpochs = new Map([['', epoch]]);
    else if (this.#toldEpochs.has('')) this.#toldEpochs.set(names[0], epoch);
    for (const name of names) {
      for (const key of this.#tables.get(name).rows.keys()) if (this.#isFollowed(name, key)) this.#tellState(name, key, 0);
    }
  }

  #say(frame) {
    if (this.#socket !== null) this.#frames.push(frame);
  }

  #deliver() {
    if (this.#frames.length === 0 || this.#socket === null) return;
    const frame = this.#frames.shift();
    if (frame.epoch !== undefined) this.#deliverEpoch(frame);
    this.#socket.receive(frame);
  }

  // That of all counts for each table that it is new to.
  #deliverEpoch({ epoch, table }) {
    const isNew = epoch !== this.#deliveredOfAll;
    if (table === undefined && !isNew) return;
    if (table === undefined) this.#deliveredOfAll = epoch;
    for (const [name, delivered] of this.#delivered) {
      if ((table ?? name) !== name || delivered.epoch === epoch) continue;
      this.#delivered.set(name, { epoch, count: delivered.count + 1 });
    }
  }

  epochsDelivered(table) {
    return this.#delivered.get(table).count;
  }
}

const isRow = ({ action, absent }) => action !== undefined || absent !== undefined;

function told(name, action, version, key, row) {
  return name === 'products' ? { action, version, product: row } : { action, version, table: name, key, row };
}

function absent(name, key, version) {
  const frame = { absent: [key], versions: [version] };
  return name === 'products' ? frame : { ...frame, table: name };
}
