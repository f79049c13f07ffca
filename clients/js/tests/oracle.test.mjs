// A real server that is killed, stopped, restarted, halted, cut off and put back to older data under clients, while rows
// are written at random: clients that are live have what the tables have, by WebSockets and by event streams.
//
//   ROWCAST_ORACLE_SECONDS=3600 ROWCAST_ORACLE_SEED=7 node --test tests/oracle.test.mjs

import assert from 'node:assert/strict';
import { cp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from '../client.js';
import { EventSource, SECRET, Server, temporaryDirectory, tokenOf, until, Way, WebSocket } from './support.mjs';
import { generator } from './world.mjs';

const SECONDS = Number(process.env.ROWCAST_ORACLE_SECONDS ?? 20);
const SEED = Number(process.env.ROWCAST_ORACLE_SEED ?? Date.now() % 1_000_000);
const KEYS = Array.from({ length: 40 }, (_, key) => key);
const TABLES = ['products', 'orders', 'notes'];
const GRANT = { read: '*', write: true, tables: { orders: { read: '*', write: true }, notes: { read: '*', write: true } } };
const WRITERS = 4;
const ROUND_MS = 1200;
// Short enough that a network that dies is noticed within a round.
const SILENCE_MS = 1500;
const TOKEN_SECONDS = 4;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

for (const [transport, upgrades] of [['WebSockets', 'pass'], ['event streams', 'refused']]) {
  test(`clients that are live have what the tables have, by ${transport}`, { timeout: SECONDS * 1000 + 120_000 }, async (t) => {
    t.diagnostic(`ROWCAST_ORACLE_SEED=${SEED}`);
    const world = await Oracle.start(t, generator(SEED), upgrades);
    const end = Date.now() + SECONDS * 1000;
    let rounds = 0;
    for (; Date.now() < end; rounds += 1) await world.round();
    t.diagnostic(`${rounds} rounds, ${world.writes} writes, ${world.compared} comparisons, ${world.failures} handlers that failed`);
    assert.ok(world.writes > 0 && world.compared > 0 && world.failures > 0);
    assert.ok(upgrades === 'pass' || world.streams > 0, `${world.streams} event streams`);
  });
}

class Oracle {
  #random;
  #server;
  #way;
  #readers = [];
  // Copies of the data: of some time ago, and of another history.
  #backup;
  #other;

  writes = 0;
  compared = 0;
  failures = 0;

  static async start(t, random, upgrades) {
    const oracle = new Oracle();
    oracle.#random = random;
    const key = join(await temporaryDirectory(t), 'key');
    await writeFile(key, SECRET);
    [oracle.#other, oracle.#backup] = [await oracle.#serve(t, key), await oracle.#serve(t, key)];
    oracle.#server = await Server.start(t, { options: ['--jwt-key', key, '--ping-seconds', '1'], token: tokenOf(GRANT, 1e6) });
    await oracle.#fill();
    oracle.#way = await Way.start(t, oracle.#server, upgrades);
    // Under load a WebSocket opens later than SILENCE_MS allows for; where one gets through nothing is to take its place.
    const options = { EventSource: upgrades === 'pass' ? null : EventSource };
    for (let number = 0; number < 3; number += 1) oracle.#readers.push(new Reader(t, oracle.#way.url, options, random, () => (oracle.failures += 1)));
    return oracle;
  }

  get streams() {
    return this.#way.count('/events');
  }

  // Returns the directory of data that a server has made and left.
  async #serve(t, key) {
    this.#server = await Server.start(t, { options: ['--jwt-key', key], token: tokenOf(GRANT, 1e6) });
    await this.#fill();
    await this.#server.stop();
    return this.#server.dataDir;
  }

  async #fill() {
    for (const table of TABLES) for (const number of KEYS.slice(0, 10)) await this.#write(table, number);
  }

  // Writes while something happens; or everything is written, and what happens then costs nobody a row.
  async round() {
    const happen = this.#pick([
      () => this.#way.cut(),
      () => this.#restart('SIGKILL'),
      () => this.#restart('SIGTERM'),
      () => this.#halt(),
      () => this.#die(),
      () => this.#restore(),
      () => this.#readers.forEach((reader) => reader.change()),
      () => this.#readers.forEach((reader) => reader.renew()),
    ]);
    let isOver = false;
    const writers = Array.from({ length: WRITERS }, async () => {
      while (!isOver) await this.#writeAny().catch(() => sleep(20));
    });
    await sleep(this.#random() * ROUND_MS);
    const isLater = this.#random() < 0.5;
    if (!isLater) await happen();
    await sleep(this.#random() * 300);
    isOver = true;
    await Promise.all(writers);
    if (isLater) await happen();
    await this.#compare();
  }

  async #compare() {
    const tables = new Map();
    for (const name of TABLES) tables.set(name, await this.#stored(name));
    for (const reader of this.#readers) {
      await reader.becomes(tables);
      this.compared += 1;
    }
  }

  async #stored(name) {
    const rows = new Map();
    for (let after = ''; after !== null; ) {
      const page = await (await this.#server.send('GET', `/tables/${name}?limit=1000${after}`)).json();
      for (const { key, row } of page.rows) rows.set(key, row);
      after = page.next === null ? null : `&after=${page.next}`;
    }
    return rows;
  }

  #writeAny() {
    return this.#write(this.#pick(TABLES), this.#pick(KEYS));
  }

  async #write(name, number) {
    const key = name === 'notes' ? `note ${number}` : number;
    const path = `/tables/${name}?key=${encodeURIComponent(key)}`;
    const units = Math.floor(this.#random() * 1e6);
    const row = name === 'products'
      ? { productId: key, manufacturer: 'm', pricePerUnit: '1', productName: 'n', unitsAvailable: units }
      : { units, text: 'x'.repeat(this.#random() * 200) };
    if (this.#random() < 0.3) await this.#server.send('DELETE', path).catch(ignoreMissing);
    else await this.#server.send('PUT', path, row);
    this.writes += 1;
  }

  async #restart(signal, meanwhile = () => sleep(this.#random() * 500)) {
    await this.#server.stop(signal);
    await meanwhile();
    await this.#server.start();
  }

  async #halt() {
    this.#server.signal('SIGSTOP');
    await sleep(this.#random() * 2 * SILENCE_MS);
    this.#server.signal('SIGCONT');
  }

  async #die() {
    this.#way.die();
    await sleep(this.#random() * 2 * SILENCE_MS);
    this.#way.revive();
  }

  // The server's data become those of some time ago, or of another history.
  #restore() {
    return this.#restart('SIGKILL', async () => {
      const { dataDir } = this.#server;
      const source = this.#random() < 0.7 ? this.#backup : this.#other;
      const kept = `${this.#backup}.kept`;
      await cp(dataDir, kept, { recursive: true });
      await rm(dataDir, { recursive: true });
      await cp(source, dataDir, { recursive: true });
      await rm(this.#backup, { recursive: true });
      await rename(kept, this.#backup);
    });
  }

  #pick(list) {
    return list[Math.floor(this.#random() * list.length)];
  }
}

function ignoreMissing(error) {
  if (!/ 404$/.test(error.message)) throw error;
}

// A client with subscribers, some of whom fail now and then; each keeps what it is told.
class Reader {
  #client;
  #random;
  #failed;
  #subscribers = [];

  constructor(t, url, options, random, failed) {
    this.#random = random;
    this.#failed = failed;
    this.#client = connect(url, { token: newToken, WebSocket, silenceMs: SILENCE_MS, ...options });
    t.after(() => this.#client.close());
    this.#client.on('error', (error) => {
      if (!(error instanceof Deliberate)) console.error(error);
    });
    for (let number = 0; number < 3; number += 1) this.#begin();
  }

  renew() {
    this.#client.token = newToken;
  }

  change() {
    const [ended] = this.#subscribers.splice(Math.floor(this.#random() * this.#subscribers.length), 1);
    ended?.end();
    this.#begin();
  }

  #begin() {
    const table = TABLES[Math.floor(this.#random() * TABLES.length)];
    const named = KEYS.filter(() => this.#random() < 0.5).map((key) => (table === 'notes' ? `note ${key}` : key));
    const keys = this.#random() < 0.4 ? '*' : named;
    const subscriber = { table, keys, rows: new Map(), isComplete: false, failing: this.#random() < 0.5, check: () => {} };
    const change = ({ key, row }) => {
      if (subscriber.failing && this.#random() < 0.05) {
        this.#failed();
        throw new Deliberate();
      }
      if (row) subscriber.rows.set(key, row);
      else subscriber.rows.delete(key);
      subscriber.check();
    };
    const complete = () => {
      subscriber.isComplete = true;
      subscriber.check();
    };
    subscriber.end = this.#client.subscribe({ table, keys }, { change, complete });
    this.#subscribers.push(subscriber);
  }

  // Resolves once it is live and has these tables.
  async becomes(tables) {
    await until(this.#client, () => this.#client.state === 'live');
    for (const subscriber of this.#subscribers) {
      await new Promise((resolve) => {
        const late = setTimeout(() => subscriber.check(true), LATE_MS);
        subscriber.check = (isLate) => {
          const wanted = ofKeys(tables.get(subscriber.table), subscriber.keys);
          if (isLate) assert.deepEqual(subscriber.rows, wanted, `seed ${SEED}: ${subscriber.table} ${subscriber.keys}`);
          if (!subscriber.isComplete || !isSame(subscriber.rows, wanted)) return;
          clearTimeout(late);
          subscriber.check = () => {};
          resolve();
        };
        subscriber.check();
      });
      const known = Array.from(this.#client.rows(subscriber.table), ({ key, row }) => [key, row]);
      const wanted = ofKeys(tables.get(subscriber.table), subscriber.keys);
      for (const [key, row] of wanted) assert.deepEqual(this.#client.get(subscriber.table, key), row);
      if (subscriber.keys === '*') assert.deepEqual(new Map(known.sort(byKey)), new Map([...wanted].sort(byKey)));
    }
  }
}

// Far longer than anything takes; a client that has not the rows by then says what it has.
const LATE_MS = 40_000;

class Deliberate extends Error {}

const newToken = () => tokenOf(GRANT, TOKEN_SECONDS);

const byKey = ([one], [other]) => (one < other ? -1 : 1);

function ofKeys(rows, keys) {
  return keys === '*' ? rows : new Map(keys.filter((key) => rows.has(key)).map((key) => [key, rows.get(key)]));
}

function isSame(some, others) {
  return some.size === others.size && [...some].every(([key, row]) => JSON.stringify(row) === JSON.stringify(others.get(key)));
}
