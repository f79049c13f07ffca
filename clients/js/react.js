// Rows of a client in React components, which are drawn again when the rows change.

import { useCallback, useMemo, useSyncExternalStore } from 'react';

const FRAME_MS = 16;

// The row; undefined while it is not known, or if it does not exist.
export function useRow(client, table, key) {
  const subscribe = useCallback((changed) => client.subscribe({ table, keys: [key] }, changed), [client, table, key]);
  return useSyncExternalStore(subscribe, () => client.get(table, key), () => undefined);
}

// The rows `{ key, row, version }` of those keys that exist, or of '*'. `keys` may be another array with each call.
export function useRows(client, table, keys) {
  const text = JSON.stringify(keys);
  const store = useMemo(() => rowsOf(client, table, JSON.parse(text)), [client, table, text]);
  return useSyncExternalStore(store.subscribe, store.rows, store.rows);
}

// The client's state, for whoever shows that rows may be old.
export function useClientState(client) {
  const subscribe = useCallback((changed) => client.on('state', changed), [client]);
  return useSyncExternalStore(subscribe, () => client.state, () => 'connecting');
}

// Many changes of one moment are drawn once.
function rowsOf(client, table, keys) {
  let [rows, timer] = [[], null];
  const subscribe = (changed) => {
    const draw = () => {
      timer = null;
      rows = [...client.rows(table, keys)];
      changed();
    };
    const end = client.subscribe({ table, keys }, () => (timer ??= setTimeout(draw, FRAME_MS)));
    return () => {
      timer = clearTimeout(timer) ?? null;
      end();
    };
  };
  return { subscribe, rows: () => rows };
}
