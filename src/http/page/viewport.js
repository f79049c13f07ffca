// The rows of a long list that are in view: pure arithmetic. All lengths are in CSS pixels.

// Browsers draw nothing at heights beyond some tens of millions. A longer list is scrolled through faster than it
// moves.
const HEIGHT_MAX = 8_000_000;
// Rows drawn beyond each edge, so that the next ones are there before they are scrolled to.
const ROWS_BEYOND = 8;

// `scrolled`: the height of the list above the view, less than 0 while the list begins within it. Returns the height of
// the list, the rows from `first` up to `end`, and what has to be added to `index * rowHeight` to place a row.
export function rowsInView({ count, rowHeight, scrolled, viewHeight }) {
  const whole = count * rowHeight;
  const height = Math.min(whole, HEIGHT_MAX);
  const shift = shiftOf(between(0, scrolled, height - viewHeight), height - viewHeight, whole - viewHeight);
  const top = scrolled - shift;
  const first = Math.floor(top / rowHeight) - ROWS_BEYOND;
  const end = Math.ceil((top + viewHeight) / rowHeight) + ROWS_BEYOND;
  return { height, first: between(0, first, count), end: between(0, end, count), shift };
}

// The same part of the whole list has passed as was scrolled.
function shiftOf(scrolled, scrolledMax, passedMax) {
  return scrolledMax < passedMax ? scrolled - (scrolled / scrolledMax) * passedMax : 0;
}

function between(least, value, most) {
  return Math.max(least, Math.min(value, most));
}
