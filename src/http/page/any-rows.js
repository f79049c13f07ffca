// Rows of any table on the screen: the head of its columns, which follow the rows, and the cells.

import { clean, flash, setText } from './cell.js';
import { Columns, membersMax } from './columns.js';
import { isNumber, textOf } from './values.js';

export class AnyRows {
  #table;
  #list;
  #on;
  #all = new Columns();
  #columns = [];
  #left = [];
  #isOther = true;
  #most = 0;

  // `list`: the one that sorts on a phone. `on`: columns(left) once the head has other columns, with the names of those
  // that have no room.
  constructor(table, list, on) {
    this.#table = table;
    this.#list = list;
    this.#on = on;
  }

  changed(id, row) {
    this.#all.changed(id, row);
    this.#isOther = true;
  }

  // Brings the columns up to date before rows are drawn; returns true if those that are drawn have others.
  prepare() {
    const most = membersMax(innerWidth);
    if (!this.#isOther && most === this.#most) return false;
    this.#isOther = false;
    this.#most = most;
    const { columns, left } = this.#all.shown(most);
    if (isSame(columns, this.#columns) && left.join() === this.#left.join()) return false;
    this.#columns = columns;
    this.#left = left;
    this.#drawHead();
    this.#on.columns(left);
    return true;
  }

  create(row) {
    const element = document.createElement('tr');
    element.setAttribute('role', 'row');
    element.dataset.id = row.id;
    for (const column of this.#columns) element.append(createCell(column, row));
    element.classList.toggle('old', row.isOwed);
    return element;
  }

  // Shows what became different between two states of a row.
  update(element, old, row) {
    for (const [place, column] of this.#columns.entries()) {
      const [before, value] = [column.value(old), column.value(row)];
      if (before === value || !write(element.cells[place], value) || column.column === 'version') continue;
      flash(element.cells[place], direction(before, value));
    }
    element.classList.toggle('old', row.isOwed);
  }

  // Makes the element of one row that of another.
  reuse(element, old, row) {
    element.dataset.id = row.id;
    element.classList.remove('entering');
    for (const [place, column] of this.#columns.entries()) {
      clean(element.cells[place]);
      write(element.cells[place], column.value(row));
    }
    element.classList.toggle('old', row.isOwed);
  }

  #drawHead() {
    this.#table.style.setProperty('--columns', this.#columns.map(width).join(' '));
    this.#table.tHead.rows[0].replaceChildren(...this.#columns.map(createHead));
    this.#list.replaceChildren(...this.#columns.map(({ column, head }) => new Option(head, column)));
  }
}

function isSame(some, others) {
  const isEqual = (one, other) => one.column === other.column && one.head === other.head && one.isNumber === other.isNumber;
  return some.length === others.length && some.every((one, place) => isEqual(one, others[place]));
}

function width({ column, isNumber: isNarrow }) {
  if (column === 'key') return 'minmax(76px, 1.1fr)';
  return `minmax(0, ${column === 'version' ? 0.6 : isNarrow ? 0.8 : 1.3}fr)`;
}

function classes({ column, isNumber: isRight }) {
  return `${column.startsWith('member:') ? 'member' : column}${isRight ? ' number' : ''}`;
}

function createHead(column) {
  const head = document.createElement('th');
  head.setAttribute('role', 'columnheader');
  head.scope = 'col';
  head.className = classes(column);
  head.dataset.column = column.column;
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'sort';
  button.textContent = column.head;
  button.title = column.head;
  head.append(button);
  return head;
}

function createCell(column, row) {
  const cell = document.createElement('td');
  cell.setAttribute('role', 'cell');
  cell.className = classes(column);
  cell.dataset.name = column.head;
  write(cell, column.value(row));
  return cell;
}

// Returns false if the cell says so already.
function write(cell, value) {
  const text = textOf(value);
  cell.classList.toggle('missing', value === undefined);
  cell.classList.toggle('null', value === null);
  if (cell.firstChild?.data === text) return false;
  setText(cell, text);
  return true;
}

function direction(before, value) {
  if (!isNumber(before) || !isNumber(value)) return '';
  return Number(value) > Number(before) ? 'up' : 'down';
}
