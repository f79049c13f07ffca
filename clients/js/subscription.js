// A subscriber of a table's rows, and those that it failed on.

import { pauseMs } from './backoff.js';

export class Subscription {
  #handler;
  #its;
  #failedById = new Map();

  topics = [];
  isNew = true;
  isEnded = false;

  constructor(table, handler, its) {
    this.table = table;
    this.#handler = typeof handler === 'function' ? { change: handler } : handler;
    this.#its = its;
  }

  // Tells a row, and its newest state again until the handler did not fail.
  tell(change) {
    if (this.isEnded) return;
    const id = String(change.key);
    this.#its.clearTimeout(this.#failedById.get(id)?.timer);
    const taken = new Promise((resolve) => resolve(this.#handler.change?.(change)));
    taken.then(() => this.#failedById.delete(id), (error) => this.#fail(change.key, error));
  }

  // Tells what was there before it.
  begin() {
    this.isNew = false;
    for (const key of this.table.known(this)) this.#tellState(key);
    if (this.isComplete) this.run('complete');
  }

  get isComplete() {
    return this.topics.every(({ piece }) => piece?.isAnswered);
  }

  // Returns false if there is no handler of this name.
  run(name, argument) {
    if (this.isEnded || this.isNew) return true;
    try {
      this.#handler[name]?.(argument);
    } catch (error) {
      this.#its.on.error(error);
    }
    return name in this.#handler;
  }

  end() {
    this.isEnded = true;
    for (const { timer } of this.#failedById.values()) this.#its.clearTimeout(timer);
  }

  #fail(key, error) {
    this.#its.on.error(error);
    if (this.isEnded) return;
    const { failures = 0, timer } = this.#failedById.get(String(key)) ?? {};
    this.#its.clearTimeout(timer);
    const again = this.#its.setTimeout(() => this.#tellState(key), pauseMs(failures));
    this.#failedById.set(String(key), { failures: failures + 1, timer: again });
  }

  #tellState(key) {
    this.tell(this.table.rows.state(key));
  }
}
