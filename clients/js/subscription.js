// A subscriber of rows of a table, and the rows that it failed on.

import { pauseMs } from './backoff.js';

export class Subscription {
  #handler;
  #report;
  #platform;
  #failed = new Map();
  #failures = 0;
  #timer = null;

  topics = [];
  left = 0;
  isNew = true;
  isEnded = false;

  constructor(table, handler, report, platform) {
    this.table = table;
    this.#handler = typeof handler === 'function' ? { change: handler } : handler;
    this.#report = report;
    this.#platform = platform;
  }

  // Tells a row, and its newest state again until the handler has run without an error.
  tell(change) {
    if (this.isEnded) return;
    const { key } = change;
    const failed = (error) => this.#fail(key, error);
    this.#failed.delete(String(key));
    try {
      this.#handler.change?.(change)?.then?.(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  // Tells what was there before it.
  begin() {
    this.isNew = false;
    this.#tellStates(this.table.known(this));
    if (this.left === 0) this.run('complete');
  }

  // Returns false if there is no handler of this name.
  run(name, argument) {
    if (this.isEnded || this.isNew) return true;
    try {
      this.#handler[name]?.(argument);
    } catch (error) {
      this.#report(error);
    }
    return name in this.#handler;
  }

  end() {
    this.isEnded = true;
    this.#platform.clearTimeout(this.#timer);
  }

  #fail(key, error) {
    this.#report(error);
    if (this.isEnded) return;
    this.#failed.set(String(key), key);
    this.#timer ??= this.#platform.setTimeout(() => this.#again(), pauseMs(this.#failures));
  }

  #again() {
    this.#timer = null;
    this.#failures += 1;
    this.#tellStates([...this.#failed.values()]);
    if (this.#failed.size === 0) this.#failures = 0;
  }

  #tellStates(keys) {
    for (const key of keys) this.tell(this.table.rows.state(key));
  }
}
