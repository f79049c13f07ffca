// Rows of products on the screen: their cells, and the flash of those that became different.

import { clean, flash, setText } from './cell.js';
import { countText, priceParts } from './text.js';

export class ProductRows {
  #template;

  constructor(template) {
    this.#template = template;
  }

  // The columns are always the same.
  changed() {}

  prepare() {
    return false;
  }

  create(row) {
    const element = this.#template.content.firstElementChild.cloneNode(true);
    element.dataset.id = row.productId;
    for (const cell of element.cells) write(cell, row);
    describe(element, row);
    return element;
  }

  // Shows what became different between two states of a row.
  update(element, old, row) {
    for (const cell of element.cells) {
      const key = cell.classList[0];
      if (key === 'actions' || row[key] === old[key]) continue;
      write(cell, row);
      if (key !== 'version') flash(cell, direction(key, old, row));
    }
    describe(element, row);
  }

  // Makes the element of one row that of another.
  reuse(element, old, row) {
    element.dataset.id = row.productId;
    element.classList.remove('entering');
    for (const cell of element.cells) {
      clean(cell);
      const key = cell.classList[0];
      if (key === 'id' || row[key] !== old[key]) write(cell, row);
    }
    describe(element, row);
  }
}

function write(cell, row) {
  const key = cell.classList[0];
  if (key === 'id') setText(cell, row.productId);
  else if (key === 'pricePerUnit') writePrice(cell, row.pricePerUnit);
  else if (key === 'unitsAvailable') writeUnits(cell, row.unitsAvailable);
  else if (key !== 'actions') setText(cell, row[key]);
}

function writePrice(cell, price) {
  const { amount, gap, currency } = priceParts(price);
  const [amountElement, currencyElement] = cell.children;
  setText(amountElement, amount + gap);
  setText(currencyElement, currency);
}

function writeUnits(cell, units) {
  setText(cell, countText(units));
  cell.classList.toggle('none-left', units <= 0);
}

function describe(element, row) {
  element.classList.toggle('old', row.isOwed);
  label(element.querySelector('.edit'), `Edit ${row.productName}`);
  label(element.querySelector('.delete'), `Delete ${row.productName}`);
}

function label(button, text) {
  if (button.dataset.label === text) return;
  button.dataset.label = text;
  button.setAttribute('aria-label', text);
}

function direction(key, old, row) {
  if (key !== 'unitsAvailable') return '';
  return row.unitsAvailable > old.unitsAvailable ? 'up' : 'down';
}
