// The columns of a table whose schema the page does not know: the members that its rows have, counted while these come,
// change and go. Pure data.

import { memberOf, isNumber, wholeTextOf } from './values.js';

export class Columns {
  #rowsById = new Map();
  // By name, in the order in which the rows named them: the rows that have the member, with a number, and with the key.
  #countsByName = new Map();

  // Takes a row as it is; nothing if it is gone.
  changed(id, row) {
    const before = this.#rowsById.get(id);
    if (before === row) return;
    if (before) this.#count(before, -1);
    if (row) {
      this.#count(row, 1);
      this.#rowsById.set(id, row);
    } else {
      this.#rowsById.delete(id);
    }
  }

  // Returns the columns to show: the key, at most so many members, and the version; and the names of the members that are
  // left. A member that repeats the key in every row gives the key's column its name.
  shown(most) {
    const all = [...this.#countsByName];
    const keyName = all.find(([, { rows, keys }]) => keys === this.#rowsById.size && rows === keys)?.[0];
    const others = all.filter(([name]) => name !== keyName);
    const members = others.slice(0, most).map(([name, { values, numbers }]) => ({
      column: `member:${name}`,
      head: name,
      isNumber: numbers > 0 && numbers === values,
      value: (row) => memberOf(row, name),
    }));
    const columns = [KEY, ...members, VERSION];
    if (keyName !== undefined) columns[0] = { ...KEY, head: keyName };
    return { columns, left: others.slice(most).map(([name]) => name) };
  }

  #count(row, by) {
    const key = String(row.id);
    for (const name of Object.keys(row.fields)) {
      const value = memberOf(row, name);
      const counts = this.#countsByName.get(name) ?? { rows: 0, values: 0, numbers: 0, keys: 0 };
      counts.rows += by;
      if (value !== null) counts.values += by;
      if (isNumber(value)) counts.numbers += by;
      if (typeof value !== 'object' || isNumber(value)) counts.keys += wholeTextOf(value) === key ? by : 0;
      if (counts.rows > 0) this.#countsByName.set(name, counts);
      else this.#countsByName.delete(name);
    }
  }
}

const KEY = { column: 'key', head: 'Key', isNumber: false, value: (row) => row.id };
const VERSION = { column: 'version', head: 'Version', isNumber: true, value: (row) => row.version };

// The most members to show at a width, in CSS pixels: in a table each has a column that can be read, on a phone each row is
// a card on which they follow one another.
export function membersMax(width) {
  if (width <= PHONE_WIDTH_MAX) return MEMBERS_MAX;
  return Math.max(2, Math.min(MEMBERS_MAX, Math.floor((Math.min(width, TABLE_WIDTH_MAX) - OTHER_COLUMNS) / COLUMN_WIDTH)));
}

const MEMBERS_MAX = 12;
const COLUMN_WIDTH = 96;
// As in style.css.
const PHONE_WIDTH_MAX = 700;
const TABLE_WIDTH_MAX = 1600;
// The key, the version, and the margins.
const OTHER_COLUMNS = 270;
