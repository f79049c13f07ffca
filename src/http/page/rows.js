// The table on the screen: of all rows those in view, drawn once a frame, whatever the rate of changes.
//
// A row keeps its element while it moves. Its place is a shift, and the order of the elements follows, so that
// keyboards and screen readers meet the rows as they are shown. The row that has the focus stays drawn wherever it
// goes. An element whose row leaves the view becomes that of one that comes, since a browser writes other texts in far
// less time than it makes rows.

import { arrange } from './arrange.js';
import { isReusable, showWhole } from './cell.js';
import { isConfirmed } from './confirm.js';
import { Order } from './order.js';
import { rowsInView } from './viewport.js';

// As long as the animation of a row that leaves.
const LEAVING_MS = 500;
const LEAVING_MAX = 16;
const HEADER_ROWS = 1;

export class Rows {
  #body;
  #drawing;
  #table;
  #shelf;
  #on;
  #order;
  // Of each element that is drawn the id of its row.
  #idsByElement = new WeakMap();
  // Of each row that is drawn its element, the row as it is shown, and its place.
  #drawnById = new Map();
  #changed = new Set();
  #entering = new Set();
  // Rows that are out of view, while a frame is drawn: their elements serve for those that come.
  #spare = [];
  #leaving = 0;
  #frame = null;
  #rowHeight = 0;

  // `drawing`: create(row), update(element, old, row), reuse(element, old, row), and prepare() before rows are drawn, which
  // returns true if those that are drawn have to be made anew. `table`: how its rows are found and ordered.
  // `on`: edit(id), delete(id), drawn(), focusLost() when the last row that could have the focus is gone.
  constructor(body, drawing, table, shelf, on) {
    this.#body = body;
    this.#drawing = drawing;
    this.#table = table;
    this.#shelf = shelf;
    this.#on = on;
    this.#order = new Order(table);
    body.addEventListener('click', (event) => this.#clicked(event));
    body.addEventListener('keydown', (event) => this.#pressed(event));
    body.addEventListener('mouseover', ({ target }) => showWhole(target.closest('td')));
    body.addEventListener('animationend', ({ target }) => target.classList.remove('entering', 'flash', 'up', 'down'));
    addEventListener('scroll', () => this.#drawSoon(), { passive: true });
    addEventListener('resize', () => this.#resized());
    this.#resized();
  }

  // The number of rows that the search finds.
  get found() {
    return this.#order.length;
  }

  // `isNew`: the row is to be seen to come.
  changed(id, isNew) {
    this.#changed.add(id);
    if (isNew) this.#entering.add(id);
    this.#drawSoon();
  }

  sortBy(column, isDescending) {
    this.#order.sortBy(column, isDescending);
    this.#drawSoon();
  }

  search(text) {
    this.#order.search(text, this.#shelf.rows());
    this.#drawSoon();
  }

  #resized() {
    this.#rowHeight = Number.parseFloat(getComputedStyle(this.#body).getPropertyValue('--row-height'));
    this.#drawSoon();
  }

  #drawSoon() {
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  // Draws the rows in view, the one that has the focus, and the one at `wanted`.
  #draw(wanted = null) {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    if (this.#drawing.prepare()) this.#removeAllBut(new Set());
    this.#order.update(this.#changed, (id) => this.#shelf.get(id));
    const view = this.#view();
    this.#body.style.height = `${view.height}px`;
    this.#on.drawn();
    const focused = this.#focused();
    const heir = this.#heir(focused);
    const places = this.#places(view, focused, [wanted, heir]);
    this.#spare = this.#takeSpare(places, focused);
    const drawn = places.map((index) => this.#show(index, view.shift));
    arrange(this.#body, drawn.map(({ element }) => element), focused?.element);
    if (heir !== null) this.#inherit(heir);
    this.#removeAllBut(new Set(drawn));
    this.#changed.clear();
    this.#entering.clear();
  }

  #view() {
    return rowsInView({
      count: this.#order.length,
      rowHeight: this.#rowHeight,
      scrolled: -this.#body.getBoundingClientRect().top,
      viewHeight: innerHeight,
    });
  }

  #focused() {
    const element = this.#body.contains(document.activeElement) ? document.activeElement.closest('tr') : null;
    return this.#idsByElement.has(element) ? this.#drawnById.get(this.#idsByElement.get(element)) : null;
  }

  // The place that gets the focus of a row that is gone, or nothing; -1 if there is none left.
  #heir(focused) {
    if (focused === null || this.#order.indexOf(this.#table.idOf(focused.row)) >= 0) return null;
    return Math.min(focused.index, this.#order.length - 1);
  }

  #inherit(heir) {
    if (heir < 0) this.#on.focusLost();
    else this.#elementAt(heir).querySelector('.edit').focus();
  }

  #elementAt(index) {
    return this.#drawnById.get(this.#table.idOf(this.#order.at(index))).element;
  }

  // The places to draw, in order.
  #places({ first, end }, focused, others) {
    const places = new Set();
    for (let index = first; index < end; index += 1) places.add(index);
    if (focused !== null) places.add(this.#order.indexOf(this.#table.idOf(focused.row)));
    for (const index of others) if (index !== null) places.add(index);
    return [...places].filter((index) => index >= 0).sort((one, other) => one - other);
  }

  #show(index, shift) {
    const row = this.#order.at(index);
    const drawn = this.#drawnById.get(this.#table.idOf(row)) ?? this.#create(row);
    if (drawn.row !== row) {
      this.#drawing.update(drawn.element, drawn.row, row);
      drawn.row = row;
    }
    const top = index * this.#rowHeight + shift;
    if (drawn.top !== top) drawn.element.style.transform = `translateY(${top}px)`;
    if (drawn.index !== index) drawn.element.setAttribute('aria-rowindex', index + HEADER_ROWS + 1);
    drawn.top = top;
    drawn.index = index;
    return drawn;
  }

  #create(row) {
    const id = this.#table.idOf(row);
    const drawn = this.#spare.shift() ?? { element: this.#drawing.create(row), row, index: null, top: null };
    if (drawn.row !== row) this.#drawing.reuse(drawn.element, drawn.row, row);
    drawn.row = row;
    if (this.#entering.has(id)) drawn.element.classList.add('entering');
    this.#idsByElement.set(drawn.element, id);
    this.#drawnById.set(id, drawn);
    return drawn;
  }

  // Takes the rows whose elements can serve for others, in the order of their places.
  #takeSpare(places, focused) {
    const kept = new Set(places.map((index) => this.#table.idOf(this.#order.at(index))));
    const spare = [];
    for (const [id, drawn] of this.#drawnById) {
      if (kept.has(id) || drawn === focused || !this.#shelf.get(id) || !isReusable(drawn.element)) continue;
      this.#drawnById.delete(id);
      spare.push(drawn);
    }
    return spare.sort((one, other) => one.index - other.index);
  }

  #removeAllBut(kept) {
    for (const { element } of this.#spare.splice(0)) element.remove();
    for (const [id, drawn] of this.#drawnById) {
      if (kept.has(drawn)) continue;
      this.#drawnById.delete(id);
      if (this.#shelf.get(id) || this.#leaving >= LEAVING_MAX) drawn.element.remove();
      else this.#leave(drawn.element);
    }
  }

  #leave(element) {
    this.#leaving += 1;
    element.inert = true;
    delete element.dataset.id;
    this.#idsByElement.delete(element);
    element.classList.add('leaving');
    // A timer, since the animation of a table that is not shown never ends.
    setTimeout(() => {
      this.#leaving -= 1;
      element.remove();
    }, LEAVING_MS);
  }

  #clicked(event) {
    const button = event.target.closest('button');
    if (!button) return;
    const id = this.#idsByElement.get(button.closest('tr'));
    if (button.classList.contains('edit')) this.#on.edit(id);
    else if (isConfirmed(button, event)) this.#on.delete(id);
  }

  // The arrow keys go to the same button of the next row.
  #pressed(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const button = event.target.closest('button');
    if (step === undefined || !button) return;
    this.#draw();
    const place = this.#order.indexOf(this.#idsByElement.get(button.closest('tr')));
    const index = place + step;
    if (place < 0 || index < 0 || index >= this.#order.length) return;
    event.preventDefault();
    this.#draw(index);
    this.#elementAt(index).querySelector(`.${button.classList[1]}`).focus();
  }
}
