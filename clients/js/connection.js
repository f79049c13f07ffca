// A connection that comes back by itself. It knows nothing of rows.

import { delayMs } from './backoff.js';

const HINT_MS_MAX = 10 * 60_000;
const TOKEN_EXPIRED = 4401;

export class Connection {
  #its;
  #socket = null;
  #timer = null;
  #attempt = 0;
  #hintMs;
  #given = null;
  #lastId = 0;
  #repliesById = new Map();

  state = 'waiting';
  retryAt = null;

  // `its.open(token)` returns a socket with a WebSocket's face.
  constructor(its) {
    this.#its = its;
  }

  use(token, answered) {
    this.#its.token = token;
    this.#given = null;
    if (this.state === 'open') this.#withToken(this.#socket, (given) => this.#authorize(given, answered), this.#its.on.error);
    else if (this.state !== 'closed') this.connect();
  }

  connect() {
    this.#hintMs = undefined;
    this.#socket?.close();
    const attempt = (this.#socket = { close() {} });
    this.#after(this.#its.silenceMs / 3, () => this.#lose());
    this.#enter('connecting');
    this.#withToken(attempt, (given) => this.#open(given), (error) => this.#failed(error));
  }

  close() {
    this.#end('closed');
    this.#its.clearTimeout(this.#timer);
  }

  // The next loss is the first of a row.
  settled() {
    this.#attempt = 0;
  }

  // Does not wait out a delay, nor trust an open socket.
  hurry() {
    if (this.state === 'waiting') this.connect();
    else if (this.state === 'open' && this.#repliesById.size === 0) this.#probe();
  }

  // Calls `answered(refusal)` if a reply comes: null, or what refuses it.
  request(command, answered) {
    const id = (this.#lastId += 1);
    this.#repliesById.set(id, answered);
    this.#socket.send(JSON.stringify({ ...command, id }));
    this.#awaitFrames();
  }

  #withToken(socket, run, failed) {
    const { token } = this.#its;
    const take = this.#whileOf(socket, (given) => token === this.#its.token && run((this.#given = given)));
    if (typeof token !== 'function') take(token);
    else if (this.#given !== null) take(this.#given);
    else new Promise((resolve) => resolve(token())).then(take, this.#whileOf(socket, failed));
  }

  #authorize(token, answered) {
    this.request({ command: 'authorize', token }, (refusal) => {
      if (refusal?.code !== 'unknown_command') return answered(token, refusal);
      this.#end('waiting');
      this.hurry();
    });
  }

  #open(token) {
    try {
      const socket = (this.#socket = this.#its.open(token));
      socket.onopen = this.#whileOf(socket, () => this.#opened());
      socket.onmessage = this.#whileOf(socket, ({ data }) => this.#received(data));
      socket.onclose = this.#whileOf(socket, ({ code }) => this.#lose(code));
      socket.onerror = () => {};
    } catch (error) {
      this.#failed(error);
    }
  }

  // A socket that was given up is not heard.
  #whileOf(socket, run) {
    return (event) => socket === this.#socket && run(event);
  }

  #failed(error) {
    this.#its.on.error(error);
    this.#lose();
  }

  #opened() {
    this.#awaitFrames();
    this.state = 'open';
    this.#its.on.open();
    this.#its.on.state();
  }

  #received(data) {
    const frame = this.#read(data);
    const { reply, ok, reconnect } = frame;
    if (reply !== undefined) {
      const answered = this.#repliesById.get(reply);
      this.#repliesById.delete(reply);
      answered?.(ok ? null : frame);
    } else if (reconnect) {
      if (reconnect.afterMs >= 0) this.#hintMs = Math.min(reconnect.afterMs, HINT_MS_MAX);
    } else {
      this.#its.on.frame(frame);
    }
    if (this.#socket) this.#awaitFrames();
  }

  #read(data) {
    try {
      return this.#its.parse(data) ?? {};
    } catch {
      return {};
    }
  }

  // A dead network closes no socket: a silent server is asked for a reply.
  #awaitFrames() {
    if (this.#repliesById.size > 0) this.#after(2 * this.#its.silenceMs, () => this.#lose());
    else this.#after(this.#its.silenceMs, () => this.#probe());
  }

  #probe() {
    this.request({ command: 'subscribe', productIDs: [] });
    this.#after(this.#its.silenceMs / 3, () => this.#lose());
  }

  #lose(closeCode) {
    if (!this.#socket) return;
    const isExpired = closeCode === TOKEN_EXPIRED;
    // A browser does not tell why a socket did not open.
    if (isExpired || this.state !== 'open') this.#given = null;
    const isRenewed = isExpired && typeof this.#its.token === 'function' && this.#attempt === 0;
    const delay = delayMs({ attempt: this.#attempt, closeCode, hintMs: isRenewed ? 0 : this.#hintMs }, this.#its.random());
    this.#attempt += 1;
    this.#after(delay, () => this.connect());
    this.#end('waiting', closeCode, this.#its.now() + delay);
  }

  #end(state, closeCode, retryAt) {
    const socket = this.#socket;
    this.#socket = null;
    this.#repliesById.clear();
    this.#enter(state, retryAt);
    socket?.close();
    this.#its.on.closed(closeCode);
  }

  #enter(state, retryAt = null) {
    this.state = state;
    this.retryAt = retryAt;
    this.#its.on.state();
  }

  // Each state waits for one thing.
  #after(ms, run) {
    this.#its.clearTimeout(this.#timer);
    this.#timer = this.#its.setTimeout(run, ms);
  }
}
