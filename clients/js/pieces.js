// Commands on rows, in pieces below what a message may have.

const KEYS_MAX = 4096;
const BYTES_BESIDE_KEY = 24;

export const PRODUCTS = 'products';

function on(command, table, keys) {
  if (table !== PRODUCTS) return { command, table, keys };
  return { command, productIDs: keys === '*' ? keys : keys.map(Number) };
}

export function subscribing(rows, keys) {
  const { table, epoch } = rows;
  const versions = keys.map((key) => rows.version(String(key)));
  const isKnown = epoch !== null && versions.some((version) => version > 0);
  return { ...on('subscribe', table, keys), ...(isKnown ? { versions, epoch } : { snapshot: true }) };
}

export function subscribingToAll({ table, epoch, newest }) {
  return { ...on('subscribe', table, '*'), snapshot: true, ...(epoch !== null && newest > 0 && { epoch, newest }) };
}

export function unsubscribing({ table }, keys) {
  return on('unsubscribe', table, keys);
}

export function cut(list, bytesMax) {
  const pieces = [];
  let bytes = Infinity;
  for (const each of list) {
    const more = 3 * JSON.stringify(each.key).length + BYTES_BESIDE_KEY;
    if (bytes + more > bytesMax || pieces.at(-1).length === KEYS_MAX) {
      pieces.push([]);
      bytes = 0;
    }
    pieces.at(-1).push(each);
    bytes += more;
  }
  return pieces;
}
