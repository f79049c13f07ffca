// A table's rows and versions: pure data. That at which a row went is kept, and taken again. A row's id is its key's text:
// 17 and "17" are one row.

const GONE_MAX = 100_000;

export class Replica {
  #entriesById = new Map();
  #goneById = new Map();
  #owedById = new Map();
  #maps = [this.#entriesById, this.#goneById, this.#owedById];
  newest = 0;

  constructor(table, epoch) {
    this.table = table;
    this.epoch = epoch;
  }

  get(key) {
    return this.#entriesById.get(String(key));
  }

  entries(keys = '*') {
    return keys === '*' ? this.#entriesById.values() : keys.map((key) => this.get(key)).filter(Boolean);
  }

  // The version of a row, there or gone.
  version(key, round = Math.ceil) {
    return round(this.get(key)?.version ?? this.#goneById.get(String(key)) ?? 0);
  }

  owed() {
    return Array.from(this.#owedById.values(), ({ key }) => key);
  }

  state(key) {
    const entry = this.get(key);
    return this.#change(entry ? 'SNAPSHOT' : 'ABSENT', entry ?? { key, version: this.version(key) });
  }

  // Forgets versions, keeps rows.
  enterEpoch(epoch) {
    if (epoch === this.epoch) return false;
    this.epoch = epoch;
    this.newest = 0;
    this.#goneById.clear();
    this.#owedById.clear();
    for (const [id, entry] of this.#entriesById) this.#entriesById.set(id, { ...entry, version: 0 });
    return true;
  }

  apply({ action, version, key, row, product }) {
    if (product) [key, row] = [product.productId, product.productName === undefined ? null : product];
    const known = this.version(key);
    const owed = this.#owedById.get(String(key))?.version ?? 0;
    if (version < owed || version < known || (version === known && this.get(key))) return [];
    this.newest = Math.max(this.newest, version);
    if (action === 'DELETE') return this.#drop(key, version, action);
    if (row) return [this.#put({ key, row, version, isOwed: false }, action)];
    return version === owed ? [] : [this.#owe(key, version, action)];
  }

  // Version 0: not known. That of a row is kept less a half then: claims are rounded down.
  absent(key, version = 0) {
    const known = this.version(key, Number);
    if (version > 0 && version < known) return [];
    this.newest = Math.max(this.newest, version);
    return this.#drop(key, version || (known && this.get(key) ? known - 0.5 : known), 'ABSENT');
  }

  fill(read) {
    const owed = this.#owedById.get(String(read.key));
    return owed && read.row && read.version >= owed.version ? this.apply({ ...read, action: owed.action }) : [];
  }

  forget(key) {
    for (const map of this.#maps) map.delete(String(key));
  }

  forgetAllBut(kept) {
    for (const map of this.#maps) for (const id of map.keys()) if (!kept.has(id)) map.delete(id);
  }

  #put(entry, action) {
    const id = String(entry.key);
    const previous = this.get(id)?.row;
    this.#goneById.delete(id);
    if (!entry.isOwed) this.#owedById.delete(id);
    this.#entriesById.set(id, entry);
    return this.#change(action, entry, previous);
  }

  #owe(key, version, action) {
    const entry = this.get(key);
    this.#owedById.set(String(key), { key, version, action });
    return entry ? this.#put({ ...entry, isOwed: true }, action) : this.#change(action, { key, version, isOwed: true });
  }

  #drop(key, version, action) {
    const id = String(key);
    const previous = this.get(key)?.row;
    const isKnown = previous || this.#owedById.has(id);
    this.forget(key);
    this.#goneById.set(id, version);
    if (this.#goneById.size > GONE_MAX) this.#goneById.delete(this.#goneById.keys().next().value);
    return isKnown ? [this.#change(action, { key, version: this.version(key) }, previous)] : [];
  }

  #change(action, entry, previous) {
    return { table: this.table, action, row: undefined, isOwed: false, ...entry, previous };
  }
}
