// A way to a server's port that can be cut, stalled, and closed to WebSockets.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const UPGRADE = /\r\nupgrade: *websocket\r\n/i;
const REFUSAL = 'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n';

export class Way {
  #sockets = new Set();

  isStalled = false;
  // What becomes of an upgrade: it may `pass`, is `refused`, or its socket is `killed`.
  upgrades;
  // The requests that came, as their lines say.
  asked = [];

  static async start(t, server, upgrades = 'pass') {
    const way = new Way();
    way.upgrades = upgrades;
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

  // How many requests came for such a path.
  count(path) {
    return this.asked.filter((line) => line.includes(` ${path}`)).length;
  }

  #join(near, port) {
    const far = connect(port, '127.0.0.1');
    near.on('data', (bytes) => this.#hear(near, bytes.toString('latin1')));
    for (const [from, to] of [[near, far], [far, near]]) {
      this.#sockets.add(from);
      // Nothing that was sent before a stall comes after it, as on a network that died.
      from.on('data', (bytes) => this.isStalled || from.isRefused || to.write(bytes));
      from.on('error', () => {});
      from.on('close', () => {
        this.#sockets.delete(from);
        if (!this.isStalled) to.destroy();
      });
    }
  }

  #hear(near, text) {
    const line = /^[A-Z]+ \S+ HTTP/.exec(text);
    if (line) this.asked.push(line[0]);
    if (this.upgrades === 'pass' || !UPGRADE.test(text)) return;
    near.isRefused = true;
    if (this.upgrades === 'killed') near.destroy();
    else near.end(REFUSAL);
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
