// Follows rows of tables, whatever happens to the connection.

import { Connection } from './connection.js';
import { ask, reader } from './reads.js';
import { Subscription } from './subscription.js';
import { subscribers, Table } from './table.js';

const PRODUCTS = 'products';
const TOO_LARGE = 1009;
const ASK_PAUSE_MS = 3000;
const REFUSED_PAUSE_MS = 30_000;

const DEFAULTS = {
  messageBytes: 64 * 1024,
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  random: Math.random,
  now: Date.now,
};

export class RowcastError extends Error {
  name = 'RowcastError';

  constructor({ error, code }, table) {
    super(error);
    Object.assign(this, { code, table });
  }
}

export function connect(url, options) {
  return new Client(url, options);
}

class Client {
  #connection;
  #its;
  #token;
  #tablesByName = new Map();
  #epoch;
  #isSourceLost = false;
  #isShown = false;
  #inVain = 0;
  #Events = null;
  #told = '';
  #newcomers = null;
  #listenersByType = { state: new Set(), error: new Set(), skipped: new Set() };

  constructor(url = '', { token, WebSocket = globalThis.WebSocket, EventSource = globalThis.EventSource, parse = JSON.parse, silenceMs = 30_000, losesChanges, platform } = {}) {
    if (!WebSocket) throw new TypeError('there is no WebSocket here: give one');
    const address = addressOf(url);
    const open = (given) => {
      this.#token = given;
      if (this.#its.EventSource && this.#Events) return new this.#Events(this.#its, given);
      return new WebSocket(`${address.replace('http', 'ws')}websocket`, given ? ['rowcast', `bearer.${given}`] : []);
    };
    const on = {
      state: () => this.#settle(),
      open: () => this.#opened(),
      closed: (code) => this.#closed(code),
      frame: (frame) => this.#take(frame),
      error: (error) => this.#report(error),
    };
    this.#its = { address, open, token, EventSource, on, parse, silenceMs, losesChanges, ...DEFAULTS, ...platform };
    this.#connection = new Connection(this.#its);
    this.#connection.connect();
    this.#listen('addEventListener');
  }

  get state() {
    if (this.phase === 'closed') return 'closed';
    if ([undefined, ...this.#tablesByName.keys()].every((name) => this.isLive(name))) return 'live';
    return this.#isShown || this.phase === 'open' ? 'stale' : 'connecting';
  }

  get phase() {
    return this.#isOpen && this.#tables.some(({ isAsking }) => isAsking) ? 'syncing' : this.#connection.state;
  }

  get retryAt() {
    return this.#connection.retryAt;
  }

  set token(token) {
    const refused = this.#tables.filter(({ isRefused }) => isRefused);
    this.#connection.use(token, (given, refusal) => {
      if (refusal) return this.#report(new RowcastError(refusal));
      this.#token = given;
      // It may grant more.
      for (const table of refused) this.#askAgain(table);
    });
  }

  isLive(name) {
    const table = this.#tablesByName.get(name);
    return this.#isOpen && !this.#isSourceLost && (!table?.isFollowed || table.isCurrent);
  }

  get(name, key) {
    return this.#tablesByName.get(name)?.rows.get(key)?.row;
  }

  rows(name, keys) {
    return this.#tablesByName.get(name)?.rows.entries(keys) ?? [];
  }

  subscribe(what, handler) {
    const { name, keys } = wanted(what);
    if (this.phase === 'closed') throw new Error('this client is closed');
    const table = this.#table(name);
    const subscription = new Subscription(table, handler, this.#its);
    table.add(subscription, keys);
    this.#flushSoon().push(subscription);
    return () => {
      if (subscription.isEnded) return;
      subscription.end();
      table.remove(subscription);
      this.#flushSoon();
    };
  }

  on(type, listener) {
    this.#listenersByType[type].add(listener);
    return () => this.#listenersByType[type].delete(listener);
  }

  hurry() {
    if (this.phase === 'waiting') this.#Events = null;
    this.#connection.hurry();
  }

  close() {
    this.#listen('removeEventListener');
    this.#connection.close();
    for (const table of this.#tables) table.end();
  }

  get #tables() {
    return [...this.#tablesByName.values()];
  }

  get #isOpen() {
    return this.#connection.state === 'open';
  }

  #table(name) {
    if (this.#tablesByName.has(name)) return this.#tablesByName.get(name);
    const table = new Table(name, this.#epoch, this.#its);
    this.#tablesByName.set(name, table);
    const { address, parse } = this.#its;
    const read = async (key) => {
      // A browser takes `.` and `..` out of a path.
      const answer = await ask(`${address}tables/${encodeURIComponent(name)}?${new URLSearchParams({ key })}`, this.#token);
      return parse(await answer.text()).rows[0];
    };
    const pause = (ms) => new Promise((resolve) => this.#later(resolve, ms));
    table.read = reader(table.rows, read, (changes) => this.#changed(table, changes), pause);
    return table;
  }

  // What a turn begins and ends goes out together.
  #flushSoon() {
    if (!this.#newcomers) queueMicrotask(() => this.#flush());
    return (this.#newcomers ??= []);
  }

  #flush() {
    const newcomers = this.#newcomers;
    this.#newcomers = null;
    for (const table of this.#tables) this.#send(table.changes(this.#isOpen));
    for (const subscription of newcomers) subscription.begin();
    this.#settle();
  }

  // Keeps no process alive.
  #later(run, ms) {
    this.#its.setTimeout(run, ms)?.unref?.();
  }

  #send(pieces) {
    for (const piece of pieces) {
      const command = piece.table.command(piece);
      if (command) this.#connection.request(command, (error) => this.#answered(piece, error));
    }
  }

  #opened() {
    // A WebSocket that opened once gets through.
    if (!this.#Events) this.#its.EventSource = null;
    for (const table of this.#tables) this.#send(table.asksForAll());
  }

  #closed(code) {
    this.#isSourceLost = false;
    for (const table of this.#tables) table.lost();
    if (code === TOO_LARGE) this.#its.messageBytes /= 2;
    if (this.#its.EventSource && this.phase === 'waiting') this.#fallBack().catch(this.#its.on.error);
  }

  async #fallBack() {
    const { ok } = await ask(`${this.#its.address}tables`, this.#token, 'HEAD').catch(() => ({}));
    this.#inVain = ok ? this.#inVain + 1 : 0;
    if (this.#inVain > 1) this.#Events = (await import('./events.js')).Events;
  }

  // Asks for all anew, after what is due and a rest.
  #askAgain(table) {
    table.asksAgain = table.isFollowed;
    this.#askSoon(table);
  }

  #askSoon(table) {
    if (!table.asksAgain || table.due.size > 0) return;
    const pause = table.askedAt + ASK_PAUSE_MS - this.#its.now();
    this.#later(() => table.asksAgain && this.#send(table.asksForAll()), pause);
  }

  #answered(piece, error) {
    const { table } = piece;
    if (piece.isEnd) {
      this.#send(table.ended());
    } else if (error && error.code !== 'forbidden') {
      this.#refused(piece, error);
    } else if (error && piece.command.versions) {
      // Of what nothing came is refused, or as it was.
      this.#send(table.asksAnew(piece, 1, true));
    } else {
      const { changes, complete } = table.answered(piece, error);
      this.#changed(table, changes);
      if (error) this.#tellRefusal(table, subscribers(piece.topics), error);
      for (const subscription of complete) subscription.run('complete');
    }
    this.#askSoon(table);
    this.#settle();
  }

  // A bad key refuses its piece: halves show which.
  #refused(piece, error) {
    const { table, topics } = piece;
    const askAnew = (parts) => this.#send(table.asksAnew(piece, parts));
    if (error.code === 'bad_keys' && topics.length > 1) return askAnew(2);
    table.refused(piece);
    this.#tellRefusal(table, subscribers(topics), error);
    this.#later(() => {
      if (this.#isOpen) askAnew(1);
      // All of the table may be due.
      this.#askSoon(table);
      this.#settle();
    }, REFUSED_PAUSE_MS);
  }

  #tellRefusal(table, subscriptions, refusal) {
    table.isRefused = true;
    const error = new RowcastError(refusal, table.rows.table);
    const heard = subscriptions.map((subscription) => subscription.run('refused', error));
    if (heard.includes(false)) this.#report(error);
  }

  #take(frame) {
    const { action, absent, unsubscribed, epoch, live, skipped, error } = frame;
    const table = this.#tablesByName.get(frame.table ?? PRODUCTS);
    if (action || absent) return table && this.#changed(table, table.take(frame));
    if (unsubscribed) table && this.#ended(table, unsubscribed);
    else if (epoch !== undefined) this.#epochBegan(frame);
    else if (skipped) this.#skipped(skipped);
    else if (live !== undefined && !frame.table) this.#isSourceLost = !live;
    else if (live !== undefined && table) table.isLost = !live;
    else if (error) this.#report(new RowcastError(frame));
    this.#settle();
  }

  #ended(table, keys) {
    if (keys === '*') return this.#askAgain(table);
    this.#changed(table, table.take({ absent: keys }));
    this.#tellRefusal(table, table.subscribers(keys.map(String)), { error: 'the token grants these no more', code: 'forbidden' });
  }

  #changed(table, changes) {
    for (const change of changes) {
      for (const subscription of table.followers(change.key)) subscription.tell(change);
      if (change.isOwed) table.read();
    }
  }

  // That of all, told to each connection, ends no table's.
  #epochBegan({ epoch, table: name }) {
    if (name === undefined && epoch === this.#epoch) return;
    if (name === undefined) this.#epoch = epoch;
    for (const table of this.#tables) {
      const isIts = name === undefined || name === table.rows.table;
      if (isIts && table.rows.enterEpoch(epoch) && table.isTold) this.#askAgain(table);
    }
  }

  #skipped(count) {
    this.#emit('skipped', count);
    if (this.#its.losesChanges) for (const table of this.#tables) this.#askAgain(table);
  }

  #settle() {
    const { state, phase } = this;
    if (phase === 'open') this.#connection.settled();
    this.#isShown ||= state === 'live';
    const told = [state, phase, this.retryAt, ...this.#tables.map(({ isCurrent }) => isCurrent)].join();
    if (told === this.#told) return;
    this.#told = told;
    this.#emit('state', state);
  }

  #emit(type, value) {
    const listeners = [...this.#listenersByType[type]];
    for (const listener of listeners) {
      try {
        listener(value);
      } catch (error) {
        console.error(error);
      }
    }
    return listeners.length > 0;
  }

  #report(error) {
    if (!this.#emit('error', error)) console.error(error);
  }

  // A page that is looked at does not wait.
  #listen(how) {
    const { document } = globalThis;
    for (const type of ['online', 'offline']) globalThis[how]?.(type, this.#hurry);
    document?.[how]('visibilitychange', this.#hurry);
  }

  #hurry = () => globalThis.document?.hidden || this.hurry();
}

// The server's HTTP address, from that or its WebSocket's.
function addressOf(url) {
  const address = new URL(url, globalThis.document?.baseURI);
  address.search = address.hash = '';
  return address.href.replace(/^ws/, 'http').replace(/(\/websocket)?\/?$/, '/');
}

function wanted(what) {
  if (what === '*' || Array.isArray(what)) return wanted({ productIDs: what });
  const { productIDs, table: name = PRODUCTS, keys = productIDs } = what;
  if (typeof name !== 'string' || !(keys === '*' || Array.isArray(keys))) throw new TypeError('name a table and its keys');
  for (const key of keys) {
    if (!Number.isSafeInteger(key) && typeof key !== 'string') throw new TypeError(`no key of ${name}: ${key}`);
  }
  return { name, keys };
}
