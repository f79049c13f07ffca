// The page's one subscription: everything that it may read of a table, each row as it is first, and then every change.
//
// What is shown is live only while no answer is due and the server has not said that its own source is lost.

import { CommandRefused, ConnectionLost } from './connection.js';
import { PRODUCTS } from './products.js';

// A page that loses changes again and again does not ask for everything without a rest.
const ASK_PAUSE_MS = 3000;
const REFUSED_PAUSE_MS = 30_000;

export class Follower {
  #connection;
  #replica;
  #on;
  #losesChanges;
  #subscription;
  #platform;
  // A number for each question; an older one's answer is nobody's.
  #asked = 0;
  #askedAt = -Infinity;
  #isAsking = false;
  #isSourceLost = false;
  #isTableLost = false;
  #isRefused = false;
  #asksAgain = false;
  #timer = null;

  // `on`: change(action) is told of changes that are not part of an answer, skipped(count), complete() of each snapshot
  // that is there, refused(text, code).
  // `subscription`: the rows that are asked for, as a command names them.
  // `losesChanges`: true if the server never sends what it says to have skipped.
  // `platform`: the parts that a test replaces.
  constructor(connection, replica, on, options = {}) {
    const { subscription = PRODUCTS.subscription, losesChanges = false, platform = browserPlatform() } = options;
    this.#connection = connection;
    this.#replica = replica;
    this.#on = on;
    this.#subscription = subscription;
    this.#losesChanges = losesChanges;
    this.#platform = platform;
  }

  // The connection is open, and knows of no subscription.
  opened() {
    this.#isSourceLost = false;
    this.#isTableLost = false;
    const { epoch, newest } = this.#replica;
    this.#ask(epoch === null ? {} : { epoch, newest });
  }

  // The connection is lost.
  closed() {
    this.#asked += 1;
    this.#isAsking = false;
    this.#asksAgain = false;
    this.#platform.clearTimeout(this.#timer);
  }

  // Takes a frame that is no reply.
  take(frame) {
    if (frame.action !== undefined) this.#changed(frame);
    else if (frame.absent !== undefined) this.#replica.absent(frame.absent, frame.versions);
    else if (frame.epoch !== undefined) this.#epochBegan(frame.epoch);
    else if (frame.live !== undefined) this.#sourceIs(frame);
    else if (frame.skipped !== undefined) this.#skipped(frame.skipped);
  }

  #changed(change) {
    if (!this.#isAsking && change.action !== 'SNAPSHOT') this.#on.change(change.action);
    this.#replica.apply(change);
  }

  #epochBegan(epoch) {
    if (this.#replica.enterEpoch(epoch)) this.#askAgain();
  }

  // The server has lost the changes of all tables, or of this one; or has them again.
  #sourceIs({ live, table }) {
    if (table === undefined) this.#isSourceLost = !live;
    else this.#isTableLost = !live;
    this.#settle();
  }

  #skipped(count) {
    this.#on.skipped(count);
    if (this.#losesChanges) this.#askAgain();
  }

  // Asks for everything anew: at once, after the answer that is due, or after a pause.
  #askAgain() {
    if (this.#asksAgain) return;
    this.#asksAgain = true;
    this.#settle();
    if (!this.#isAsking) this.#askSoon();
  }

  #askSoon() {
    const pause = Math.max(0, this.#askedAt + ASK_PAUSE_MS - this.#platform.now());
    this.#platform.clearTimeout(this.#timer);
    this.#timer = this.#platform.setTimeout(() => this.#ask({}), pause);
  }

  // `hints`: what is known already.
  async #ask(hints) {
    const number = (this.#asked += 1);
    this.#askedAt = this.#platform.now();
    this.#isAsking = true;
    this.#asksAgain = false;
    this.#isRefused = false;
    this.#replica.begin();
    this.#settle();
    try {
      await this.#connection.request({ command: 'subscribe', ...this.#subscription, snapshot: true, ...hints });
    } catch (error) {
      if (error instanceof CommandRefused && number === this.#asked) this.#refused(error);
      else if (!(error instanceof ConnectionLost)) throw error;
      return;
    }
    if (number === this.#asked) this.#answered();
  }

  #answered() {
    this.#isAsking = false;
    this.#replica.complete();
    this.#on.complete();
    if (this.#asksAgain) this.#askSoon();
    this.#settle();
  }

  // Another server may do it, or this one later.
  #refused({ message, code }) {
    this.#isAsking = false;
    this.#isRefused = true;
    this.#on.refused(message, code);
    this.#settle();
    this.#timer = this.#platform.setTimeout(() => this.#connection.abandon(), REFUSED_PAUSE_MS);
  }

  #settle() {
    if (this.#isRefused) this.#connection.become('refused');
    else if (this.#isSourceLost || this.#isTableLost) this.#connection.become('stale');
    else this.#connection.become(this.#isAsking || this.#asksAgain ? 'syncing' : 'live');
  }
}

function browserPlatform() {
  return {
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    now: () => performance.now(),
  };
}
