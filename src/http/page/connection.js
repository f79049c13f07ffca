// One live connection that comes back by itself. It knows of commands and replies, and nothing of rows.
//
//   connecting ──open──► syncing ◄─become()─► live, stale, refused
//       ▲                   │                        │
//       └──delay── waiting ◄┴──────── closed ────────┘

import { delayMs } from './backoff.js';

const OPEN_TIMEOUT_MS = 10_000;
// A dead network closes no socket. The server's pings are answered by the browser unseen, so a silent connection is
// asked for a reply.
const SILENCE_MS_MAX = 30_000;
const REPLY_TIMEOUT_MS = 10_000;
// A server that owes an answer keeps the next ones back until that is there.
const OWING_SILENCE_MS_MAX = 60_000;
const HINT_MS_MAX = 10 * 60_000;

export class ConnectionLost extends Error {}
export class CommandRefused extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

export class LiveConnection {
  #url;
  #on;
  #platform;
  #parse;
  #socket = null;
  #state = 'connecting';
  #retryAt = null;
  #attempt = 0;
  #hintMs;
  #timer = null;
  #nextId = 1;
  #repliesById = new Map();

  // The subprotocols that the next socket offers the server.
  subprotocols = [];

  // `on`: state(state, retryAtMs), open(), closed(), error(text), frame(frame) of every other frame.
  // `platform`: the parts that a test replaces. `parse`: reads the JSON of a frame.
  constructor(url, on, { platform = browserPlatform(), parse = JSON.parse } = {}) {
    this.#url = url;
    this.#on = on;
    this.#platform = platform;
    this.#parse = parse;
  }

  connect() {
    this.#clearTimer();
    this.#hintMs = undefined;
    this.#enter('connecting');
    const socket = new this.#platform.WebSocket(this.#url, this.subprotocols);
    this.#socket = socket;
    this.#after(OPEN_TIMEOUT_MS, () => this.#lose(socket));
    socket.onopen = () => this.#opened(socket);
    socket.onmessage = ({ data }) => this.#received(socket, data);
    socket.onclose = ({ code }) => this.#lose(socket, code);
  }

  // Enters a state of an open connection: `live` if what is shown is, `syncing` while that is still to come, `stale`
  // while the server cannot tell, `refused` if it will not.
  become(state) {
    if (!this.#isOpen || this.#state === state) return;
    if (state === 'live') this.#attempt = 0;
    this.#enter(state);
  }

  // Gives this socket up; the next one comes after the usual delay.
  abandon() {
    this.#lose(this.#socket);
  }

  // A good moment to be connected (the network has changed, the page is looked at): does not wait out a delay, and does
  // not take an open socket's word for it.
  hurry() {
    if (this.#state === 'waiting') this.connect();
    else if (this.#isOpen && this.#repliesById.size === 0) this.#probe();
  }

  // Sends a command, and resolves when the server's reply says that it was carried out.
  request(command) {
    if (!this.#isOpen) return Promise.reject(new ConnectionLost());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#repliesById.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ ...command, id }));
      this.#awaitFrames();
    });
  }

  get #isOpen() {
    return this.#state !== 'connecting' && this.#state !== 'waiting';
  }

  #opened(socket) {
    if (socket !== this.#socket) return;
    this.#enter('syncing');
    this.#awaitFrames();
    this.#on.open();
  }

  #received(socket, data) {
    if (socket !== this.#socket) return;
    const frame = this.#frameOf(data);
    if (frame.reply !== undefined) this.#answered(frame);
    else if (frame.reconnect !== undefined) this.#hinted(frame.reconnect.afterMs);
    else if (frame.error !== undefined) this.#on.error(frame.error);
    else this.#on.frame(frame);
    if (socket === this.#socket) this.#awaitFrames();
  }

  #frameOf(data) {
    try {
      return this.#parse(data) ?? {};
    } catch {
      return {};
    }
  }

  #answered({ reply, ok, error, code }) {
    const waiting = this.#repliesById.get(reply);
    this.#repliesById.delete(reply);
    if (ok) waiting?.resolve();
    else waiting?.reject(new CommandRefused(error, code));
  }

  #hinted(afterMs) {
    if (Number.isFinite(afterMs)) this.#hintMs = Math.min(Math.max(afterMs, 0), HINT_MS_MAX);
  }

  #awaitFrames() {
    const socket = this.#socket;
    if (this.#repliesById.size > 0) this.#after(OWING_SILENCE_MS_MAX, () => this.#lose(socket));
    else this.#after(SILENCE_MS_MAX, () => this.#probe());
  }

  #probe() {
    const socket = this.#socket;
    this.request({ command: 'subscribe', productIDs: [] }).catch(() => {});
    this.#after(REPLY_TIMEOUT_MS, () => this.#lose(socket));
  }

  #lose(socket, closeCode) {
    if (socket === null || socket !== this.#socket) return;
    this.#socket = null;
    socket.close();
    for (const { reject } of this.#repliesById.values()) reject(new ConnectionLost());
    this.#repliesById.clear();
    this.#on.closed();
    const delay = delayMs({ attempt: this.#attempt, closeCode, hintMs: this.#hintMs }, this.#platform.random());
    this.#attempt += 1;
    this.#after(delay, () => this.connect());
    this.#enter('waiting', this.#platform.now() + delay);
  }

  #enter(state, retryAt = null) {
    this.#state = state;
    this.#retryAt = retryAt;
    this.#on.state(state, this.#retryAt);
  }

  // One timer is enough: each state waits for one thing.
  #after(ms, run) {
    this.#clearTimer();
    this.#timer = this.#platform.setTimeout(run, ms);
  }

  #clearTimer() {
    this.#platform.clearTimeout(this.#timer);
  }
}

function browserPlatform() {
  return {
    WebSocket: globalThis.WebSocket,
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    random: Math.random,
    now: Date.now,
  };
}
