// The rows of a table as the server last told them, and the version of each: pure data.
//
// Versions decide. Within one epoch they only grow for one row, deletes included, so the version at which a row
// went is kept as well. Only where a row is missing is the version that it had taken again.

import { PRODUCTS } from './products.js';

export const PRODUCT_ID_MAX = Number.MAX_SAFE_INTEGER;

export class Replica {
  #rowsById = new Map();
  #versionsById = new Map();
  // The versions of which only the id was told.
  #owedById = new Map();
  // The rows that were named since the snapshot was asked for.
  #named = null;
  #changed;
  #table;

  epoch = null;
  // The greatest version of this epoch.
  newest = 0;

  // `changed(id, isNew)` is told of every row that came, changed or went.
  // `table`: how its messages are read.
  constructor(changed = () => {}, table = PRODUCTS) {
    this.#changed = changed;
    this.#table = table;
  }

  get size() {
    return this.#rowsById.size;
  }

  get(id) {
    return this.#rowsById.get(id);
  }

  rows() {
    return this.#rowsById.values();
  }

  get isOwing() {
    return this.#owedById.size > 0;
  }

  // The ids whose rows are still to be read.
  owed() {
    return [...this.#owedById.keys()];
  }

  nextFreeId() {
    let greatest = 0;
    for (const id of this.#rowsById.keys()) if (id > greatest) greatest = id;
    if (greatest < PRODUCT_ID_MAX) return greatest + 1;
    let free = 1;
    while (this.#rowsById.has(free)) free += 1;
    return free;
  }

  // A snapshot is asked for: what is not named until it is complete will be gone.
  begin() {
    this.#named = new Set();
  }

  complete() {
    const named = this.#named ?? new Set();
    this.#named = null;
    for (const id of [...this.#rowsById.keys()]) if (!named.has(id)) this.#drop(id);
  }

  // Forgets the versions of another epoch, and keeps their rows until they are told again. Returns true if something
  // had been named by then, which may be of the other epoch.
  enterEpoch(epoch) {
    if (epoch === this.epoch) return false;
    this.epoch = epoch;
    this.newest = 0;
    this.#versionsById.clear();
    this.#owedById.clear();
    return this.#named === null || this.#named.size > 0;
  }

  // Takes one change, or one row of a snapshot.
  apply(change) {
    const { action, version } = change;
    const { id, row } = this.#table.told(change);
    if (action === 'DELETE') {
      if (this.#isOld(id, version)) return;
      this.#learn(id, version);
      this.#drop(id);
      return;
    }
    this.#named?.add(id);
    if (row === null) this.#owe(id, version);
    else this.#put(id, row, version);
  }

  // These do not exist; version 0 says that it is not known since when.
  absent(ids, versions = []) {
    for (const [place, id] of ids.entries()) {
      const version = versions[place] ?? 0;
      if (version > 0 && version < this.#version(id)) continue;
      this.#learn(id, Math.max(version, this.#version(id)));
      this.#drop(id);
    }
  }

  // Takes a row, in the form of a message, that was read because only its id had been told. Whatever was told meanwhile is
  // newer.
  fill(read) {
    const { id, row } = this.#table.told(read);
    if (this.#owedById.has(id) && row !== null) this.#put(id, row, read.version);
  }

  #put(id, row, version) {
    if (this.#isOld(id, version)) return;
    const isNew = !this.#rowsById.has(id);
    this.#learn(id, version);
    this.#rowsById.set(id, { ...row, version, isOwed: false });
    this.#changed(id, isNew);
  }

  #owe(id, version) {
    if (this.#isOld(id, version) || this.#owedById.get(id) === version) return;
    this.newest = Math.max(this.newest, version);
    this.#owedById.set(id, version);
    const row = this.#rowsById.get(id);
    if (row) this.#rowsById.set(id, { ...row, isOwed: true });
    this.#changed(id, false);
  }

  #isOld(id, version) {
    if (version < (this.#owedById.get(id) ?? 0)) return true;
    const known = this.#version(id);
    return version < known || (version === known && this.#rowsById.has(id));
  }

  #version(id) {
    return this.#versionsById.get(id) ?? 0;
  }

  #learn(id, version) {
    this.#owedById.delete(id);
    this.#versionsById.set(id, version);
    this.newest = Math.max(this.newest, version);
  }

  #drop(id) {
    this.#owedById.delete(id);
    if (this.#rowsById.delete(id)) this.#changed(id, false);
  }
}
