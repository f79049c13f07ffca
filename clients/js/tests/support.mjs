// What the tests against a server share: the server, tokens, and a way to it that can be cut and stalled.

import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { WebSocket as OfPackage } from 'ws';

export { BINARY, Server, temporaryDirectory } from '../../../tests/browser/server.mjs';

// Node's own, which it has from 22 on, and 20 with --experimental-websocket.
export const WebSocket = globalThis.WebSocket ?? OfPackage;

export const SECRET = 'a secret that is as long as it must be';

// A JWT that grants this for so many seconds.
export function tokenOf(rowcast, seconds = 3600) {
  const part = (json) => Buffer.from(JSON.stringify(json)).toString('base64url');
  const body = `${part({ alg: 'HS256' })}.${part({ exp: Date.now() / 1000 + seconds, rowcast })}`;
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`;
}

// A way to a server's port.
export class Way {
  #sockets = new Set();

  isStalled = false;

  static async start(t, server) {
    const way = new Way();
    const listener = createServer((near) => way.#join(near, Number(new URL(server.url).port)));
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    way.url = `http://127.0.0.1:${listener.address().port}`;
    t.after(() => {
      way.cut();
      listener.close();
    });
    return way;
  }

  #join(near, port) {
    const far = connect(port, '127.0.0.1');
    for (const [from, to] of [[near, far], [far, near]]) {
      this.#sockets.add(from);
      // Nothing that was sent before a stall comes after it, as on a network that died.
      from.on('data', (bytes) => this.isStalled || to.write(bytes));
      from.on('error', () => {});
      from.on('close', () => {
        this.#sockets.delete(from);
        if (!this.isStalled) to.destroy();
      });
    }
  }

  // Ends every connection.
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  // The network dies under its connections; new ones get through.
  die() {
    this.isStalled = true;
  }

  revive() {
    this.cut();
    this.isStalled = false;
  }
}

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
