// One live connection that comes back by itself. It knows the protocol's frames and replies, and nothing of products.
//
//   connecting ──open──► syncing ──ready()──► live
//       ▲                   │                  │
//       └──delay── waiting ◄┴──── closed ──────┘

import { delayMs } from './backoff.js';

const OPEN_TIMEOUT_MS = 10_000;
// A dead network closes no socket. The server's pings are answered by the browser unseen, so a silent connection is
// asked for a reply.
const SILENCE_MS_MAX = 30_000;
const REPLY_TIMEOUT_MS = 10_000;
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

  // `on`: state(state, retryAtMs), open(), change(change), skipped(count), error(text).
  // `platform`: the parts that a test replaces.
  constructor(url, on, platform = browserPlatform()) {
    this.#url = url;
    this.#on = on;
    this.#platform = platform;
  }

  get isLive() {
    return this.#state === 'live';
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

  // Enters the state `live`: all that was missed has been caught up with, and what is shown is live.
  ready() {
    if (this.#state !== 'syncing') return;
    this.#attempt = 0;
    this.#enter('live');
  }

  // Gives this socket up; the next one comes after the usual delay.
  abandon() {
    this.#lose(this.#socket);
  }

  // A good moment to be connected (the network is back, the page is looked at): does not wait out a delay, and does not
  // take an open socket's word for it.
  hurry() {
    if (this.#state === 'waiting') this.connect();
    else if (this.#state === 'live') this.#probe();
  }

  // Sends a command, and resolves when the server's reply says that it was carried out.
  request(command) {
    if (this.#state !== 'syncing' && this.#state !== 'live') return Promise.reject(new ConnectionLost());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#repliesById.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ ...command, id }));
    });
  }

  #opened(socket) {
    if (socket !== this.#socket) return;
    this.#enter('syncing');
    this.#awaitFrames();
    this.#on.open();
  }

  #received(socket, data) {
    if (socket !== this.#socket) return;
    this.#awaitFrames();
    const frame = parse(data);
    if (frame.action !== undefined) this.#on.change(frame);
    else if (frame.reply !== undefined) this.#answered(frame);
    else if (frame.skipped !== undefined) this.#on.skipped(frame.skipped);
    else if (frame.reconnect !== undefined) this.#hinted(frame.reconnect.afterMs);
    else if (frame.error !== undefined) this.#on.error(frame.error);
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
    this.#after(SILENCE_MS_MAX, () => this.#probe());
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

function parse(data) {
  try {
    return JSON.parse(data) ?? {};
  } catch {
    return {};
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
