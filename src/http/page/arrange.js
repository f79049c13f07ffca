// The order of elements within their parent.

// Brings `elements` into this order. `fixed`, one of them or nothing, is never moved: it has the focus, and would lose
// it.
export function arrange(parent, elements, fixed) {
  if (elements.length === 0) return;
  const start = Math.max(0, elements.indexOf(fixed));
  if (!elements[start].isConnected) parent.prepend(elements[start]);
  for (let i = start - 1; i >= 0; i -= 1) move(parent, elements[i], elements[i + 1]);
  for (let i = start + 1; i < elements.length; i += 1) move(parent, elements[i], elements[i - 1].nextElementSibling);
}

function move(parent, element, before) {
  if (element === before || (element.isConnected && element.nextElementSibling === before)) return;
  // A browser that can moves an element with its animations.
  if (element.isConnected && parent.moveBefore) parent.moveBefore(element, before);
  else parent.insertBefore(element, before);
}
