// Rows too large for a message, whose key alone is told.

import { pauseMs } from './backoff.js';

const TIMEOUT_MS = 15_000;

// Returns a function that reads what is owed; `read(key)` resolves to a row.
export function reader(rows, read, filled, pause) {
  let isReading = false;
  return async () => {
    if (isReading) return;
    isReading = true;
    let failures = 0;
    for (let keys = rows.owed(); keys.length > 0; keys = rows.owed()) {
      for (const key of keys) {
        // What fails is read again.
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

export function ask(address, token, method) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  return fetch(address, { method, headers, cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
}
