// A world that a test holds: sockets, clock and chance.

import { connect } from '../client.js';

export class World {
  sockets = [];
  now = 1_000_000;
  chance = 0;
  // Looks at a command as it is sent.
  watch = () => {};
  #timers = new Map();
  #last = 0;

  platform = {
    setTimeout: (run, ms) => {
      this.#timers.set((this.#last += 1), { run, at: this.now + ms });
      return this.#last;
    },
    clearTimeout: (timer) => this.#timers.delete(timer),
    random: () => this.chance,
    now: () => this.now,
  };

  // The class of its sockets, of which only a test says what comes.
  get WebSocket() {
    const { sockets } = this;
    const watch = (command) => this.watch(command);
    return class {
      sent = [];
      isClosed = false;

      constructor(url, protocols) {
        Object.assign(this, { url, protocols });
        sockets.push(this);
      }

      send(text) {
        const command = JSON.parse(text);
        watch(command);
        this.sent.push(command);
      }

      close() {
        this.isClosed = true;
      }

      receive(...frames) {
        for (const frame of frames) this.onmessage({ data: JSON.stringify(frame) });
      }

      // Answers the commands that were sent since the last time.
      accept() {
        for (const { id } of this.sent.splice(0)) this.receive({ reply: id, ok: true, subscribed: 1 });
      }

      refuse(code, error = code) {
        for (const { id } of this.sent.splice(0)) this.receive({ reply: id, ok: false, error, code });
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  // The times in which timers fire, in milliseconds from now on.
  get due() {
    return Array.from(this.#timers.values(), ({ at }) => at - this.now).sort((one, other) => one - other);
  }

  // Lets time pass, and what is due then happen.
  async pass(ms) {
    const end = this.now + ms;
    for (let next = this.#next(end); next; next = this.#next(end)) {
      const [timer, { run, at }] = next;
      this.#timers.delete(timer);
      this.now = Math.max(this.now, at);
      run();
      await turn();
    }
    this.now = end;
  }

  #next(end) {
    const due = [...this.#timers].filter(([, { at }]) => at <= end);
    return due.sort(([, one], [, other]) => one.at - other.at)[0];
  }

  connect(options = {}) {
    return connect('ws://test/websocket', { WebSocket: this.WebSocket, platform: this.platform, ...options });
  }

  // A client whose first socket is open.
  open(options) {
    const client = this.connect(options);
    this.socket.onopen();
    return client;
  }
}

export const turn = () => new Promise((resolve) => setImmediate(resolve));

export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
