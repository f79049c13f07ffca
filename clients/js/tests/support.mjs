// What the tests against a server share: the server, tokens, a way to it that can be cut and stalled, and subscribers.

import { WebSocket as OfPackage } from 'ws';
import { connect } from '../client.js';

export { Way } from './way.mjs';
export { SECRET, tokenOf } from '../../../tests/browser/jwt.mjs';
export { EventSource } from 'eventsource';
export { BINARY, Server, temporaryDirectory } from '../../../tests/browser/server.mjs';

// Node's own, which it has from 22 on, and 20 with --experimental-websocket.
export const WebSocket = globalThis.WebSocket ?? OfPackage;

// Resolves once `isSo` is, of which `client` tells by its events and `changed` by its calls.
export function until(client, isSo) {
  return new Promise((resolve) => {
    if (isSo()) return resolve();
    const off = client.on('state', () => {
      if (!isSo()) return;
      off();
      resolve();
    });
  });
}

export function client(t, url, options = {}) {
  const client = connect(url, { WebSocket, ...options });
  t.after(() => client.close());
  return client;
}

// A subscriber, and what it was told until `next()` resolves with a change that is like that.
export function follow(client, what) {
  const told = [];
  let check = () => {};
  const tell = (entry) => {
    told.push(entry);
    check();
  };
  const end = client.subscribe(what, {
    change: (change) => tell(change), complete: () => tell('complete'), refused: ({ code }) => tell(code),
  });
  const next = (isIt) =>
    new Promise((resolve) => {
      check = () => {
        const place = told.findIndex((each) => each === isIt || (typeof isIt === 'function' && isIt(each)));
        if (place < 0) return;
        check = () => {};
        resolve(told.splice(place, 1)[0]);
      };
      check();
    });
  return { told, end, next };
}

export const put = (server, key, row) => server.send('PUT', `/tables/orders?key=${encodeURIComponent(key)}`, row);
