// One row on the screen: its cells, and the flash of those that became different.

import { countText, priceParts } from './text.js';

// The element of a row.
export function createRow(template, row) {
  const element = template.content.firstElementChild.cloneNode(true);
  element.dataset.id = row.productId;
  for (const cell of element.cells) write(cell, row);
  describe(element, row);
  return element;
}

// Shows what became different between two states of a row.
export function updateRow(element, old, row) {
  for (const cell of element.cells) {
    const key = cell.classList[0];
    if (key === 'actions' || row[key] === old[key]) continue;
    write(cell, row);
    if (key !== 'version') flash(cell, direction(key, old, row));
  }
  describe(element, row);
}

// Makes the element of one row that of another.
export function reuseRow(element, old, row) {
  element.dataset.id = row.productId;
  element.classList.remove('entering');
  for (const cell of element.cells) {
    if (cell.classList.contains('flash')) cell.classList.remove('flash', 'up', 'down');
    cell.removeAttribute('title');
    const key = cell.classList[0];
    if (key === 'id' || row[key] !== old[key]) write(cell, row);
  }
  describe(element, row);
}

// False while a press or a question is under way, which is about this row and no other.
export function isReusable(element) {
  return element.querySelector(':active, .confirming') === null;
}

// A text that is cut off is shown whole by the mouse.
export function showWhole(cell) {
  if (!cell || cell.classList.contains('actions')) return;
  const isCut = cell.scrollWidth > cell.clientWidth || cell.scrollHeight > cell.clientHeight;
  cell.title = isCut ? cell.textContent : '';
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

// Two equal animations take turns, since a cell whose animation runs would not start the same one again.
function flash(cell, upOrDown) {
  const again = cell.classList.contains('flash') && cell.dataset.beat !== '1';
  cell.dataset.beat = again ? '1' : '0';
  cell.classList.add('flash');
  cell.classList.toggle('up', upOrDown === 'up');
  cell.classList.toggle('down', upOrDown === 'down');
}

// The node of a text stays, since a new one costs the browser more.
function setText(element, text) {
  if (element.firstChild === null) element.textContent = text;
  else if (element.firstChild.data !== String(text)) element.firstChild.data = text;
}
