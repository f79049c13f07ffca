// Cells on the screen, of any table: their texts, and the flash of those that became different.

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

// Two equal animations take turns, since a cell whose animation runs would not start the same one again.
export function flash(cell, upOrDown) {
  const again = cell.classList.contains('flash') && cell.dataset.beat !== '1';
  cell.dataset.beat = again ? '1' : '0';
  cell.classList.add('flash');
  cell.classList.toggle('up', upOrDown === 'up');
  cell.classList.toggle('down', upOrDown === 'down');
}

// Takes away what belongs to the row whose element this was.
export function clean(cell) {
  if (cell.classList.contains('flash')) cell.classList.remove('flash', 'up', 'down');
  cell.removeAttribute('title');
}

// The node of a text stays, since a new one costs the browser more.
export function setText(element, text) {
  if (element.firstChild === null) element.textContent = text;
  else if (element.firstChild.data !== String(text)) element.firstChild.data = text;
}
