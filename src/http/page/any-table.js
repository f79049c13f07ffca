// A table that the page knows nothing of but its name: how its rows are drawn, found and ordered. Pure.

import { folded, wordsOf } from './search.js';
import { compareSortable, memberOf, sortable, wholeTextOf } from './values.js';

// The name of the table that an address asks for (`/?table=orders`); null if none is, which means the products.
export function tableNamed(search) {
  return new URLSearchParams(search).get('table');
}

export class AnyTable {
  // The text of each row in which words are looked for, made when one is.
  #textsByRow = new WeakMap();

  firstColumn = 'key';

  constructor(name) {
    this.name = name;
    this.subscription = { table: name, keys: '*' };
  }

  // The row that is drawn of one that the client tells.
  rowOf({ key, row, version, isOwed }) {
    return { id: key, fields: row, version, isOwed };
  }

  idOf(row) {
    return row.id;
  }

  // Returns the test for a row: each word has to be in its key or in one of its values.
  matcher(text) {
    const words = wordsOf(text);
    if (words.length === 0) return () => true;
    return (row) => words.every((word) => this.#textOf(row).includes(word));
  }

  valueOf(column) {
    if (column === 'key') return (row) => sortable(row.id);
    if (column === 'version') return (row) => sortable(row.version);
    const name = column.slice('member:'.length);
    return (row) => sortable(memberOf(row, name));
  }

  // Returns the comparison of entries `{ id, value }`. Equal values are in the order of their keys, in both directions.
  comparison(column, isDescending) {
    return (one, other) => compareSortable(one.value, other.value, isDescending) || compareKeys(one.id, other.id);
  }

  #textOf(row) {
    let text = this.#textsByRow.get(row);
    if (text === undefined) {
      text = folded([row.id, ...Object.values(row.fields)].map(wholeTextOf).join('\n'));
      this.#textsByRow.set(row, text);
    }
    return text;
  }
}

// Numbers come before texts. Two keys are never equal.
function compareKeys(one, other) {
  if (typeof one !== typeof other) return typeof one === 'number' ? -1 : 1;
  return one < other ? -1 : Number(one > other);
}
