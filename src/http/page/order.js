// The list of the rows that a search finds, sorted, and kept so while they change: pure data.

import { PRODUCTS } from './products.js';

export class Order {
  // Sorted. An entry that leaves is marked first, so that any number of them leave in one pass.
  #entries = [];
  #entriesById = new Map();
  #table;
  #column;
  #matches;
  #compare;

  // `table`: how its rows are found and ordered.
  constructor(table = PRODUCTS) {
    this.#table = table;
    this.#column = table.firstColumn;
    this.#matches = table.matcher('');
    this.#compare = table.comparison(table.firstColumn, false);
  }

  get length() {
    return this.#entries.length;
  }

  // The row at a place.
  at(index) {
    return this.#entries[index]?.row;
  }

  // The place of a row, or -1.
  indexOf(id) {
    const entry = this.#entriesById.get(id);
    return entry === undefined ? -1 : this.#placeOf(entry);
  }

  sortBy(column, isDescending) {
    this.#column = column;
    this.#compare = this.#table.comparison(column, isDescending);
    this.#rebuild([...this.#entries].map((entry) => entry.row));
  }

  // `rows`: all of them, found before or not.
  search(text, rows) {
    this.#matches = this.#table.matcher(text);
    this.#rebuild([...rows].filter(this.#matches));
  }

  // Takes the rows that came, changed or went; `rowOf(id)` returns a row as it is, or nothing.
  update(ids, rowOf) {
    const come = [];
    let isLeft = false;
    for (const id of ids) {
      const row = rowOf(id);
      const before = this.#entriesById.get(id);
      const entry = row && this.#matches(row) ? this.#entry(row) : undefined;
      if (before && entry && this.#compare(before, entry) === 0) {
        before.row = row;
        continue;
      }
      if (before) {
        before.hasLeft = isLeft = true;
        this.#entriesById.delete(id);
      }
      if (entry) {
        come.push(entry);
        this.#entriesById.set(id, entry);
      }
    }
    if (isLeft) this.#entries = this.#entries.filter((entry) => !entry.hasLeft);
    if (come.length > 0) this.#entries = merged(this.#entries, come.sort(this.#compare), this.#compare);
  }

  #rebuild(rows) {
    this.#entries = rows.map((row) => this.#entry(row)).sort(this.#compare);
    this.#entriesById = new Map(this.#entries.map((entry) => [entry.id, entry]));
  }

  #entry(row) {
    return { id: this.#table.idOf(row), value: this.#table.valueOf(this.#column)(row), row, hasLeft: false };
  }

  #placeOf(entry) {
    let first = 0;
    let end = this.#entries.length;
    while (first < end) {
      const middle = (first + end) >>> 1;
      if (this.#compare(this.#entries[middle], entry) < 0) first = middle + 1;
      else end = middle;
    }
    return first;
  }
}

function merged(some, others, compare) {
  if (some.length === 0) return others;
  const all = [];
  let next = 0;
  for (const other of others) {
    while (next < some.length && compare(some[next], other) < 0) all.push(some[next++]);
    all.push(other);
  }
  while (next < some.length) all.push(some[next++]);
  return all;
}
