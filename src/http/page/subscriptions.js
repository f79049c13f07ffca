// The product ids to subscribe to: those that are shown, and free ids where others may add products, so that these
// appear: a window after the greatest, and the lowest gaps before it.

import { PRODUCT_ID_MAX } from './products.js';

const WINDOW_IDS = 64;
// The window is filled up only when it is half used, so that it does not cost a command per added product.
const WINDOW_IDS_MIN = 32;
const GAP_IDS_MAX = 64;
// A command may have 256 KiB; a thousand ids of 16 digits are 17.
const IDS_PER_COMMAND = 1000;

// The ids that a connection subscribed to `subscribed` still lacks to follow `table`.
export function missingIds(table, subscribed) {
  return [...table.ids(), ...gapIds(table), ...windowIds(table)].filter((id) => !subscribed.has(id));
}

// Returns true if the missing ids are worth a command.
export function lacksIds(table, subscribed) {
  const window = windowIds(table);
  const left = window.filter((id) => subscribed.has(id)).length;
  return left < Math.min(WINDOW_IDS_MIN, window.length) || table.ids().some((id) => !subscribed.has(id));
}

// While a next page waits, the ids after the greatest are those of its products, not free.
function windowIds(table) {
  if (table.frontier < Infinity) return [];
  const first = table.greatestId() + 1;
  const count = Math.min(WINDOW_IDS, PRODUCT_ID_MAX - first + 1);
  return Array.from({ length: count }, (_, i) => first + i);
}

function gapIds(table) {
  const gaps = [];
  const greatest = table.greatestId();
  for (let id = 0; id < greatest && gaps.length < GAP_IDS_MAX; id += 1) if (!table.get(id)) gaps.push(id);
  return gaps;
}

export function commandChunks(ids) {
  const chunks = [];
  for (let i = 0; i < ids.length; i += IDS_PER_COMMAND) chunks.push(ids.slice(i, i + IDS_PER_COMMAND));
  return chunks;
}
