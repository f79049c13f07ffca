// A socket for where WebSockets do not get through: it takes a client's commands, and has what they ask for by `GET /events`.
// A stream is one subscription, so those of a table are opened anew for what is added to it. What is ended goes with the next.

import { ask } from './reads.js';

const ALL = Symbol('*');
// Proxies take no longer address.
const ADDRESS_LENGTH_MAX = 8000;
// A browser has six requests under way to a server over HTTP/1.1; one is left for others.
const STREAMS_MAX = 5;
const STREAMS_MAX_HTTP2 = 100;
const TOKEN_EXPIRED = 4401;
const CODES = { 400: 'bad_keys', 403: 'forbidden', 404: 'unknown_table' };

export class Events {
  #its;
  #token;
  #tablesByName = new Map();
  #isOver = false;

  constructor(its, token) {
    this.#its = its;
    this.#token = token;
    this.#knock(() => this.onopen());
  }

  send(text) {
    const { command, table: name, keys, id } = JSON.parse(text);
    // It is asked whether anybody is there, or something that a stream cannot do.
    if (!keys) return this.#knock(() => this.#reply(id, { ok: command === 'subscribe', code: 'unknown_command' }));
    const table = this.#table(name);
    const ids = keys === '*' ? [ALL] : keys.map(String);
    if (command === 'subscribe') {
      for (const each of ids) table.wanted.add(each);
      table.asked.push({ id, ids });
    } else {
      table.end(keys === '*' ? [...table.wanted] : ids);
    }
    queueMicrotask(() => {
      if (command !== 'subscribe') this.#reply(id, { ok: true });
      this.#renew(table);
    });
  }

  close() {
    this.#isOver = true;
    for (const table of this.#tablesByName.values()) this.#leave(table);
  }

  #end(code) {
    if (this.#isOver) return;
    this.close();
    this.onclose({ code });
  }

  async #knock(run) {
    const { ok, status } = await ask(`${this.#its.address}tables`, this.#token, 'HEAD').catch(() => ({}));
    if (!ok) this.#end(status === 401 ? TOKEN_EXPIRED : undefined);
    else if (!this.#isOver) run();
  }

  #say(frame) {
    if (!this.#isOver) this.onmessage({ data: JSON.stringify(frame) });
  }

  #reply(id, answer) {
    this.#say({ ...answer, reply: id });
  }

  #table(name) {
    if (!this.#tablesByName.has(name)) this.#tablesByName.set(name, new Table(name));
    return this.#tablesByName.get(name);
  }

  // Opens the streams of a table anew if more is asked for.
  #renew(table) {
    if (this.#isOver || table.isExamined) return;
    if (table.wanted.size === 0) this.#leave(table);
    const asked = table.asked.splice(0);
    if (table.has(asked)) {
      table.pending.push(...asked);
      return this.#answer(table);
    }
    const addresses = this.#fit(table, asked);
    if (asked.length === 0 && table.streams.length > 0) return;
    this.#leave(table);
    table.pending.push(...asked);
    table.told.clear();
    // Until the rows that were followed are told again, they may be old.
    this.#say({ live: addresses.length === 0, table: table.name });
    table.streams = addresses.map((address) => this.#stream(table, address));
  }

  // Returns the addresses of the streams of a table, and refuses what there is no room for.
  #fit(table, asked) {
    const { address } = this.#its;
    const others = [...this.#tablesByName.values()].filter((other) => other !== table);
    const taken = others.reduce((sum, { streams }) => sum + streams.length, 0);
    const max = address.startsWith('https') ? STREAMS_MAX_HTTP2 : STREAMS_MAX;
    for (;;) {
      const addresses = this.#addresses(table.name, [...table.wanted]);
      if (taken + addresses.length <= max || asked.length === 0) return addresses;
      const error = `without a WebSocket ${max} event streams are all, too few for these rows: follow '*', or serve HTTPS for HTTP/2`;
      this.#refuse(table, asked.pop(), { ok: false, error, code: 'too_many_streams' });
    }
  }

  #refuse(table, { id, ids }, refusal) {
    table.end(ids);
    this.#reply(id, refusal);
  }

  #addresses(table, ids) {
    const token = this.#token && { token: this.#token };
    const start = `${this.#its.address}events?${new URLSearchParams({ table, ...token })}`;
    if (ids.includes(ALL)) return [`${start}&key=*`];
    const addresses = [];
    for (const key of ids) {
      // `*` alone would be all rows.
      const part = key === '*' ? '&key=*&key=*' : `&${new URLSearchParams({ key })}`;
      if (!(addresses.at(-1)?.length + part.length <= ADDRESS_LENGTH_MAX)) addresses.push(start);
      addresses.push(addresses.pop() + part);
    }
    return addresses;
  }

  #leave(table) {
    for (const { source, timer } of table.streams.splice(0)) {
      source.close();
      this.#its.clearTimeout(timer);
    }
  }

  #stream(table, address) {
    const source = new this.#its.EventSource(address);
    const stream = { source, timer: null, epoch: null, isBegun: false, lost: new Set(), reply: null };
    const heard = (run) => ({ data }) => {
      if (!table.streams.includes(stream)) return;
      this.#watch(stream);
      run(data);
    };
    source.onmessage = heard((data) => this.#take(table, stream, data));
    source.onerror = heard(() => this.#examine(table).catch(() => this.#end()));
    source.addEventListener('ping', heard(() => this.#say({})));
    source.addEventListener('close', heard((data) => this.#end(JSON.parse(data).code)));
    this.#watch(stream);
    return stream;
  }

  // Nobody closes a stream whose network died.
  #watch(stream) {
    this.#its.clearTimeout(stream.timer);
    stream.timer = this.#its.setTimeout(() => this.#end(), 2 * this.#its.silenceMs);
  }

  #take(table, stream, data) {
    const frame = JSON.parse(data);
    const { reply, epoch, live } = frame;
    if (live !== undefined) {
      stream.lost[live ? 'delete' : 'add'](frame.table);
      return this.#sayLive(table);
    }
    if (epoch !== undefined) stream.epoch = epoch;
    // That of all tables is told before a table's own.
    if (epoch !== undefined && !stream.isBegun) return;
    if (epoch !== undefined || !stream.isBegun) this.#enterEpoch(table, stream);
    if (reply !== undefined) {
      stream.reply = frame;
      this.#answer(table);
    } else if (epoch === undefined) {
      table.hear(frame);
      if (!this.#isOver) this.onmessage({ data });
    }
  }

  // The streams of a table are not told of an epoch in one moment: what one brings would count as of another's.
  #enterEpoch(table, stream) {
    stream.isBegun = true;
    if (table.streams.some(({ isBegun, epoch }) => isBegun && epoch !== stream.epoch)) this.#end();
    else if (stream.epoch !== null) this.#say({ epoch: stream.epoch, table: table.name });
  }

  #sayLive(table) {
    if (table.isAnswered) this.#say({ live: table.streams.every(({ lost }) => lost.size === 0), table: table.name });
  }

  // Answers the commands that wait, once all rows have been told.
  #answer(table) {
    if (!table.isAnswered) return;
    const isAll = table.wanted.has(ALL);
    const refusal = table.streams.map(({ reply }) => reply).find(({ ok }) => !ok);
    for (const command of table.pending.splice(0)) {
      const denied = refusal ? command.ids.filter((id) => !table.told.has(id)) : [];
      if (denied.length === 0) this.#reply(command.id, { ok: true });
      else if (isAll && command.ids[0] !== ALL) table.asked.push(command);
      else this.#refuse(table, { ...command, ids: denied }, refusal);
    }
    if (refusal) this.#renew(table);
    this.#sayLive(table);
  }

  // An EventSource does not tell why it gave up: each command that waits is asked about by itself.
  async #examine(table) {
    this.#leave(table);
    table.isExamined = true;
    const commands = table.pending.splice(0);
    for (const command of commands) {
      const refusal = await this.#refusal(table, command);
      if (refusal) this.#refuse(table, command, refusal);
      else table.asked.push(command);
    }
    table.isExamined = false;
    if (commands.every((command) => table.asked.includes(command))) this.#end();
    this.#renew(table);
  }

  async #refusal({ name }, { ids }) {
    for (const address of this.#addresses(name, ids)) {
      const answer = await ask(address, this.#token);
      const code = CODES[answer.status];
      if (code) return { ok: false, error: (await answer.json()).detail, code };
      answer.body.cancel();
    }
  }
}

// The rows of a table that are wanted, by the texts of their keys, and the streams that tell them.
class Table {
  wanted = new Set();
  // The commands that no stream has been opened for, and those that wait for what was told since.
  asked = [];
  pending = [];
  told = new Set();
  streams = [];
  isExamined = false;

  constructor(name) {
    this.name = name;
  }

  get isAnswered() {
    return !this.isExamined && this.streams.every(({ reply }) => reply);
  }

  // Whether its streams tell the rows of these commands already.
  has(commands) {
    const isAll = this.streams.length > 0 && this.wanted.has(ALL);
    return this.wanted.size === 0 || (isAll && commands.every(({ ids }) => ids[0] !== ALL));
  }

  end(ids) {
    for (const id of ids) this.wanted.delete(id);
  }

  hear({ action, product, key, absent }) {
    if (this.pending.length === 0 || this.wanted.has(ALL)) return;
    if (absent) for (const each of absent) this.told.add(String(each));
    else if (action) this.told.add(String(product ? product.productId : key));
  }
}
