// One subscribed WebSocket that reads as fast as k6 can. k6 takes what arrives from the socket whether or not the
// script keeps up, so such a reader is never slow in the server's eyes.

import { clearTimeout, setTimeout } from 'k6/timers';
import { open } from './access.js';
import { atWall, now } from './clock.js';
import { Ledger } from './ledger.js';
import { k6Wait, latency, opening, refused, settle, subscribed, unexpectedCloses } from './metrics.js';

// The WebSocket standard's readyState.
const OPEN = 1;

// A server that goes takes hundreds of sockets with it; of each virtual user, this many are told of.
let complaintsLeft = 3;

function complain(text) {
  if (complaintsLeft > 0) console.error(text);
  complaintsLeft -= 1;
}

export class Reader {
  #commandsById = new Map();
  #isClosing = false;
  #isReady = false;
  #staysToTheEnd = false;
  #timer = null;

  // Opens a socket and subscribes it to `ids`. `ready` resolves to whether that was done, `closed` when it has ended.
  // With `asksStates` it asks first for each product as it is, or where it knows the `epoch` of its versions, for what
  // differs from them.
  constructor(url, ids, versionsById, { asksStates = false, epoch = null } = {}) {
    const openedAt = now();
    this.ledger = new Ledger(versionsById, { asksStates });
    this.epoch = epoch;
    // Products that came before the server said that the socket is subscribed.
    this.states = 0;
    this.socket = open(url);
    this.closed = new Promise((resolve) => {
      this.socket.onclose = (event) => resolve(this.#ended(event));
    });
    this.ready = new Promise((resolve) => {
      this.socket.onopen = async () => {
        const done = await this.subscribe(ids);
        this.#isReady = done;
        if (done) {
          opening.add(now() - openedAt);
          subscribed.add(1);
        }
        resolve(done);
      };
      this.closed.then(() => resolve(false));
    });
    this.socket.onmessage = (event) => this.#read(event);
    this.socket.onerror = (event) => {
      if (!this.#isClosing) complain(`a socket failed: ${event.error}`);
    };
  }

  // Resolves to whether the server accepted.
  subscribe(ids) {
    this.ledger.asked(ids, now());
    return this.#command('subscribe', ids, this.#asked(ids));
  }

  unsubscribe(ids) {
    this.ledger.released(ids);
    return this.#command('unsubscribe', ids);
  }

  // Stays until the last change of every product has come, at most until `deadline`; resolves when the socket has
  // ended.
  untilTheLast(deadline) {
    this.#staysToTheEnd = true;
    if (this.ledger.isComplete) this.close();
    else this.#timer = setTimeout(() => this.close(), Math.max(1, deadline - now()));
    return this.closed;
  }

  get isOpen() {
    return this.socket.readyState === OPEN;
  }

  close() {
    this.#isClosing = true;
    if (this.isOpen) this.socket.close();
    return this.closed;
  }

  #asked(ids) {
    if (!this.ledger.asksStates) return {};
    if (this.epoch === null) return { snapshot: true };
    return { versions: ids.map((id) => this.ledger.versionsById.get(id) ?? 0), epoch: this.epoch };
  }

  #command(command, ids, more = {}) {
    const id = this.#commandsById.size;
    return new Promise((resolve) => {
      this.#commandsById.set(id, { command, ids, resolve });
      this.socket.send(JSON.stringify({ command, productIDs: ids, id, ...more }));
    });
  }

  #read({ data, timestamp }) {
    const message = JSON.parse(data);
    if (message.action !== undefined) {
      const readAt = atWall(timestamp);
      const sentAt = this.ledger.change(message);
      if (!this.#isReady) this.states += 1;
      // States are as old as they are.
      if (sentAt !== null && (this.#isReady || !this.ledger.asksStates)) latency.add(readAt - sentAt);
      if (this.ledger.received % 8 === 0) k6Wait.add(now() - readAt);
    } else if (message.skipped !== undefined) {
      this.ledger.skip(message.skipped);
    } else if (message.epoch !== undefined) {
      if (this.epoch !== null && this.epoch !== message.epoch) this.ledger.forgetVersions();
      this.epoch = message.epoch;
    } else {
      this.#answer(message);
    }
    if (this.#staysToTheEnd && this.ledger.isComplete) this.close();
  }

  #answer(message) {
    if (message.error !== undefined) {
      refused.add(1);
      complain(`the server refused: ${message.error}`);
    }
    const asked = this.#commandsById.get(message.reply);
    if (asked === undefined) return;
    if (message.ok && asked.command === 'subscribe') this.ledger.accepted(asked.ids, now());
    asked.resolve(message.ok);
  }

  #ended({ code }) {
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (!this.#isClosing) {
      unexpectedCloses.add(1);
      complain(`a socket was closed with ${code ?? 'no code'}`);
    }
    for (const { resolve } of this.#commandsById.values()) resolve(false);
    settle(this.ledger, { withLast: this.#staysToTheEnd, reader: 'prompt' });
  }
}
