// The table on the screen: one row per product, in the order of the ids. Changes are gathered and drawn once a frame,
// whatever their rate, and each cell that became different flashes.

import { countText, priceParts } from './text.js';

const CONFIRM_MS = 4000;
// As long as the animation of a row that leaves.
const LEAVING_MS = 500;

export class ProductRows {
  #body;
  #table;
  #template;
  #on;
  #drawnById = new Map();
  #quietById = new Map();
  #frame = null;

  // `on`: edit(id), delete(id), drawn(rowsWereAdded).
  constructor(body, template, table, on) {
    this.#body = body;
    this.#template = template;
    this.#table = table;
    this.#on = on;
    body.addEventListener('click', (event) => this.#clicked(event));
    body.addEventListener('animationend', ({ target }) => target.classList.remove('entering', 'flash', 'up', 'down'));
  }

  // A row that a list told appears without a flash: it is new only to this page.
  changed(id, listed) {
    this.#quietById.set(id, listed && (this.#quietById.get(id) ?? true));
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = null;
    let added = false;
    for (const id of this.#quietById.keys()) {
      if (!this.#table.get(id)) this.#remove(id);
      else if (this.#drawnById.has(id)) this.#update(this.#drawnById.get(id), this.#table.get(id));
      else added = true;
    }
    if (added) this.#addMissing();
    this.#quietById.clear();
    this.#on.drawn(added);
  }

  #addMissing() {
    let before = null;
    for (const id of this.#table.ids().reverse()) {
      if (!this.#drawnById.has(id)) this.#body.insertBefore(this.#create(this.#table.get(id)), before);
      before = this.#drawnById.get(id).element;
    }
  }

  #create(row) {
    const element = this.#template.content.firstElementChild.cloneNode(true);
    element.dataset.id = row.productId;
    const drawn = { element, row };
    for (const cell of element.cells) write(cell, row);
    label(element, row);
    this.#drawnById.set(row.productId, drawn);
    if (this.#quietById.get(row.productId) === false) element.classList.add('entering');
    return element;
  }

  #update(drawn, row) {
    const { element, row: old } = drawn;
    drawn.row = row;
    for (const cell of element.cells) {
      const key = cell.classList[0];
      if (key === 'actions' || row[key] === old[key]) continue;
      write(cell, row);
      if (key !== 'version') flash(cell, direction(key, old, row));
    }
    label(element, row);
  }

  #remove(id) {
    const drawn = this.#drawnById.get(id);
    if (!drawn) return;
    this.#drawnById.delete(id);
    const { element } = drawn;
    if (element.contains(document.activeElement)) focusNeighbour(element);
    element.inert = true;
    delete element.dataset.id;
    element.classList.add('leaving');
    // A timer, since the animation of a table that is not shown never ends.
    setTimeout(() => element.remove(), LEAVING_MS);
  }

  #clicked(event) {
    const button = event.target.closest('button');
    if (!button) return;
    const id = Number(button.closest('tr').dataset.id);
    if (button.classList.contains('edit')) this.#on.edit(id);
    else if (!button.classList.contains('confirming')) askToConfirm(button);
    // The second half of a double click confirms nothing.
    else if (event.detail < 2) this.#on.delete(id);
  }
}

function write(cell, row) {
  const key = cell.classList[0];
  if (key === 'id') cell.textContent = row.productId;
  else if (key === 'pricePerUnit') writePrice(cell, row.pricePerUnit);
  else if (key === 'unitsAvailable') writeUnits(cell, row.unitsAvailable);
  else if (key === 'version') cell.textContent = row.version;
  else if (key !== 'actions') cell.textContent = row[key];
}

function writePrice(cell, price) {
  const { amount, gap, currency } = priceParts(price);
  const [amountElement, currencyElement] = cell.children;
  amountElement.textContent = amount + gap;
  currencyElement.textContent = currency;
}

function writeUnits(cell, units) {
  cell.textContent = countText(units);
  cell.classList.toggle('none-left', units <= 0);
}

function label(element, row) {
  element.querySelector('.edit').setAttribute('aria-label', `Edit ${row.productName}`);
  element.querySelector('.delete').setAttribute('aria-label', `Delete ${row.productName}`);
}

function direction(key, old, row) {
  if (key !== 'unitsAvailable') return '';
  return row.unitsAvailable > old.unitsAvailable ? 'up' : 'down';
}

// Two equal animations take turns, since a cell whose animation runs would not start the same one again.
function flash(cell, upOrDown) {
  const again = cell.classList.contains('flash') && cell.dataset.beat !== '1';
  cell.dataset.beat = again ? '1' : '0';
  cell.classList.add('flash');
  cell.classList.toggle('up', upOrDown === 'up');
  cell.classList.toggle('down', upOrDown === 'down');
}

function focusNeighbour(element) {
  const neighbour = element.nextElementSibling ?? element.previousElementSibling;
  (neighbour?.querySelector('.edit') ?? document.querySelector('#add')).focus();
}

// Deleting takes a second click on the same button, soon and without leaving it.
function askToConfirm(button) {
  const label = button.getAttribute('aria-label');
  const relent = () => {
    clearTimeout(timer);
    button.classList.remove('confirming');
    button.removeEventListener('blur', relent);
    button.removeEventListener('keydown', relentOnEscape);
    if (button.getAttribute('aria-label') === `Confirm: ${label}`) button.setAttribute('aria-label', label);
  };
  const relentOnEscape = ({ key }) => key === 'Escape' && relent();
  const timer = setTimeout(relent, CONFIRM_MS);
  button.classList.add('confirming');
  button.setAttribute('aria-label', `Confirm: ${label}`);
  button.addEventListener('blur', relent);
  button.addEventListener('keydown', relentOnEscape);
}
