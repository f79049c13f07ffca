// The rows of the page's table as it draws them, by their keys. The client tells them, and knows which are old.

export const PRODUCT_ID_MAX = Number.MAX_SAFE_INTEGER;

export class Shelf {
  #rowsByKey = new Map();
  #table;
  #changed;

  // `changed(key, isNew)` is told of every row that came, changed or went. `table`: how its rows are drawn.
  constructor(table, changed = () => {}) {
    this.#table = table;
    this.#changed = changed;
  }

  get size() {
    return this.#rowsByKey.size;
  }

  get(key) {
    return this.#rowsByKey.get(key);
  }

  rows() {
    return this.#rowsByKey.values();
  }

  // Takes a change as the client tells it.
  take(change) {
    const { key, row } = change;
    const isNew = row !== undefined && !this.#rowsByKey.has(key);
    if (row !== undefined) this.#rowsByKey.set(key, this.#table.rowOf(change));
    else if (!this.#rowsByKey.delete(key)) return;
    this.#changed(key, isNew);
  }

  nextFreeId() {
    let greatest = 0;
    for (const id of this.#rowsByKey.keys()) if (id > greatest) greatest = id;
    if (greatest < PRODUCT_ID_MAX) return greatest + 1;
    let free = 1;
    while (this.#rowsByKey.has(free)) free += 1;
    return free;
  }
}
