// The products this page knows, and the newest version seen of each: pure data, told of lists and changes.
//
// A list and the stream of changes overtake each other. What decides is the version, which only grows for one product,
// deletes included; so the versions of deleted products are kept while the page lives.

export const PRODUCT_ID_MAX = Number.MAX_SAFE_INTEGER;

export class ProductTable {
  #rowsById = new Map();
  #versionsById = new Map();
  #changed;

  // The greatest id that was listed. Above it lie products of a next page, whose changes would show as rows with holes
  // between them.
  frontier = Infinity;

  // `changed(id, listed)` is told of every row that came, changed or went; `listed` when a list told it.
  constructor(changed = () => {}) {
    this.#changed = changed;
  }

  get size() {
    return this.#rowsById.size;
  }

  get(id) {
    return this.#rowsById.get(id);
  }

  ids() {
    return [...this.#rowsById.keys()].sort((a, b) => a - b);
  }

  greatestId() {
    let greatest = -1;
    for (const id of this.#rowsById.keys()) if (id > greatest) greatest = id;
    return greatest;
  }

  nextFreeId() {
    const greatest = this.greatestId();
    if (greatest < 0) return 1;
    if (greatest < PRODUCT_ID_MAX) return greatest + 1;
    let free = 1;
    while (this.#rowsById.has(free)) free += 1;
    return free;
  }

  // Applies one change of the stream; false when it needs a read first, because it carries the product's id alone.
  apply({ action, version, product }) {
    const id = product.productId;
    if (id > this.frontier && !this.#rowsById.has(id)) return true;
    if (action === 'DELETE') {
      this.delete(id, version);
      return true;
    }
    if (product.productName === undefined) return version <= this.#version(id);
    this.put(product, version);
    return true;
  }

  put(product, version, listed = false) {
    const id = product.productId;
    if (version <= this.#version(id)) return;
    this.#versionsById.set(id, version);
    this.#rowsById.set(id, { ...product, version });
    this.#changed(id, listed);
  }

  delete(id, version) {
    if (version <= this.#version(id)) return;
    this.#versionsById.set(id, version);
    this.#drop(id);
  }

  // Returns the versions that a list must not contradict: take them before asking for the list.
  versions() {
    return new Map([...this.#rowsById].map(([id, row]) => [id, row.version]));
  }

  // Merges the page of a list that was asked for when the rows had `versionsBefore`: every product above `after`, up to
  // `next` (null: to the end).
  mergePage({ products, next }, after, versionsBefore) {
    for (const { version, ...product } of products) this.put(product, version, true);
    const listed = new Set(products.map((product) => product.productId));
    for (const [id, version] of versionsBefore) {
      const covered = id > after && id <= (next ?? Infinity);
      if (covered && !listed.has(id)) this.gone(id, version);
    }
  }

  // The server no longer had this product at some moment after its row had `versionBefore`. A row that has grown since
  // was inserted again.
  gone(id, versionBefore) {
    if (this.#version(id) <= versionBefore) this.#drop(id);
  }

  #version(id) {
    return this.#versionsById.get(id) ?? -1;
  }

  #drop(id) {
    if (this.#rowsById.delete(id)) this.#changed(id, false);
  }
}
