// Commands, in pieces that fit a message.

const KEYS_MAX = 4096;
const BYTES_BESIDE_KEY = 24;

export function subscribing(rows, keys, isWhole) {
  const { table, epoch, newest } = rows;
  const command = { command: 'subscribe', table, keys, epoch };
  const isKnown = (version) => !isWhole && epoch && version > 0;
  if (keys === '*') return { ...command, snapshot: true, ...(isKnown(newest) && { newest }) };
  const versions = keys.map((key) => rows.version(key, Math.floor));
  return { ...command, ...(versions.some(isKnown) ? { versions } : { snapshot: true }) };
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
