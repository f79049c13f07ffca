// The order of elements within their parent.

// Brings `elements` into this order with as few moves as can be: a browser lays out anew what is moved. `fixed`, one of
// them or nothing, is never moved: it has the focus, and would lose it.
export function arrange(parent, elements, fixed) {
  const places = new Map(Array.from(parent.children, (element, place) => [element, place]));
  const staying = rising(
    elements.map((element) => places.get(element)),
    elements.indexOf(fixed),
  );
  let next = null;
  for (let i = elements.length - 1; i >= 0; i -= 1) {
    if (!staying.has(i)) move(parent, elements[i], next);
    next = elements[i];
  }
}

// Returns the indices of a longest rising series within `numbers`, of which some may be undefined. The one at `fixed`
// is part of it, unless that is -1.
export function rising(numbers, fixed = -1) {
  const fits = (number, i) => fixed < 0 || i === fixed || i < fixed === number < numbers[fixed];
  // Of the series of each length the index at which the one with the least end has its end.
  const ends = [];
  const before = [];
  for (const [i, number] of numbers.entries()) {
    if (number === undefined || !fits(number, i)) continue;
    let length = ends.length;
    while (length > 0 && numbers[ends[length - 1]] > number) length -= 1;
    before[i] = ends[length - 1];
    ends[length] = i;
  }
  const indices = new Set();
  for (let i = ends.at(-1); i !== undefined; i = before[i]) indices.add(i);
  return indices;
}

function move(parent, element, before) {
  // A browser that can moves an element with its animations.
  if (element.isConnected && parent.moveBefore) parent.moveBefore(element, before);
  else parent.insertBefore(element, before);
}
