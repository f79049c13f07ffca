// The steps of one open connection by which the table misses nothing: subscribe, wait for the reply, and only then
// list.

import { CommandRefused } from './connection.js';
import { commandChunks, lacksIds, missingIds } from './subscriptions.js';

export class Sync {
  #table;
  #connection;
  #listProducts;
  #refused;
  #subscribed = new Set();
  #running = null;
  #again = false;

  // `refused(text)` is told when the server does not carry out a subscription.
  constructor(table, connection, listProducts, refused) {
    this.#table = table;
    this.#connection = connection;
    this.#listProducts = listProducts;
    this.#refused = refused;
  }

  // Brings the table up to date. Asked again while it runs, it runs once more.
  catchUp() {
    this.#again = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  // To be told when the table grew: its window of free ids may have to move.
  tableGrew() {
    return lacksIds(this.#table, this.#subscribed) ? this.catchUp() : undefined;
  }

  // Shows the next page, and follows it.
  async loadMore() {
    const after = this.#table.frontier;
    if (after === Infinity) return;
    this.#table.frontier = (await this.#mergePage(after)) ?? Infinity;
    await this.catchUp();
  }

  async #run() {
    // A page that knows no product yet learns here which to follow.
    if (this.#table.size === 0) await this.#list();
    while (this.#again) {
      this.#again = false;
      // Until a list shows nothing that was not subscribed to before it was asked for.
      do {
        await this.#subscribe(missingIds(this.#table, this.#subscribed));
        await this.#list();
      } while (lacksIds(this.#table, this.#subscribed));
    }
  }

  async #subscribe(ids) {
    try {
      await Promise.all(
        commandChunks(ids).map((productIDs) => this.#connection.request({ command: 'subscribe', productIDs })),
      );
    } catch (error) {
      if (!(error instanceof CommandRefused)) throw error;
      // A token that lets this page read some of them is no fault.
      if (error.code !== 'forbidden') this.#refused(error.message);
    }
    // Refused ids too: the answer would be the same again.
    for (const id of ids) this.#subscribed.add(id);
  }

  // Lists from the beginning, as far as is shown. The frontier moves only then: a change that comes while a page is on
  // its way must find its place.
  async #list() {
    let next = null;
    do {
      next = await this.#mergePage(next);
    } while (next !== null && next < this.#reach());
    this.#table.frontier = next ?? Infinity;
  }

  #reach() {
    return this.#table.frontier < Infinity ? this.#table.frontier : this.#table.greatestId();
  }

  async #mergePage(after) {
    const versionsBefore = this.#table.versions();
    const page = await this.#listProducts(after);
    this.#table.mergePage(page, after ?? -1, versionsBefore);
    return page.next;
  }
}
