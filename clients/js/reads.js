// The rows that are too large for a message, of which the key alone is told.

import { pauseMs } from './backoff.js';

const TIMEOUT_MS = 15_000;

// Returns a function that reads what is owed. `read(key)` resolves to a row as a message has it.
export function reader(rows, read, filled, pause) {
  let isReading = false;
  return async () => {
    if (isReading) return;
    isReading = true;
    let failures = 0;
    for (let keys = rows.owed(); keys.length > 0; keys = rows.owed()) {
      for (const key of keys) {
        // What fails is read again; if it is gone, the server says so.
        const row = await read(key).catch(() => undefined);
        if (row) filled(rows.fill(row));
      }
      const isLeft = rows.owed().some((key) => keys.includes(key));
      if (isLeft) await pause(pauseMs(failures));
      failures = isLeft ? failures + 1 : 0;
    }
    isReading = false;
  };
}

// The key is no part of the path, from which a browser takes `.` and `..` away.
export async function readRow(address, token, parse, key) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(`${address}?key=${encodeURIComponent(key)}`, { headers, cache: 'no-store', signal });
  return parse(await response.text()).rows[0];
}
