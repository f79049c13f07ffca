// Which product ids to subscribe to: those that are shown, and a window of free ids after the greatest, so that products
// that others add appear.

import { PRODUCT_ID_MAX } from './products.js';

const WINDOW_IDS = 64;
// The window is filled up only when it is half used, so that it does not cost a command per added product.
const WINDOW_IDS_MIN = 32;
// A command may have 256 KiB; a thousand ids of 16 digits are 17.
const IDS_PER_COMMAND = 1000;

// The ids that a connection subscribed to `subscribed` still lacks to follow `table`.
export function missingIds(table, subscribed) {
  const shown = table.ids().filter((id) => !subscribed.has(id));
  return [...shown, ...windowIds(table, subscribed)];
}

// While a next page waits, the ids after the greatest are those of its products, not free.
function windowIds(table, subscribed) {
  if (table.frontier < Infinity) return [];
  const window = [];
  const first = table.greatestId() + 1;
  for (let id = first; id < first + WINDOW_IDS && id <= PRODUCT_ID_MAX; id += 1) window.push(id);
  const missing = window.filter((id) => !subscribed.has(id));
  return window.length - missing.length < Math.min(WINDOW_IDS_MIN, window.length) ? missing : [];
}

export function commandChunks(ids) {
  const chunks = [];
  for (let i = 0; i < ids.length; i += IDS_PER_COMMAND) chunks.push(ids.slice(i, i + IDS_PER_COMMAND));
  return chunks;
}
