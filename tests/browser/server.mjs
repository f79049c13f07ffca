// A server of its own for each test, without a browser. Whatever a test starts, it hands to `t.after`, so that it ends also
// when the test fails.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { SECRET, tokenOf } from './jwt.mjs';

export const BINARY = process.env.ROWCAST_BIN ?? fileURLToPath(new URL('../../target/debug/rowcast', import.meta.url));
const LIVE_LINE = /^Rowcast is live at (https?:\/\/127\.0\.0\.1:(\d+))/;

// An interrupted run does not get to its `t.after`; what it started ends, and what it made is removed, at its exit.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

export async function temporaryDirectory(t) {
  const path = await mkdtemp(join(tmpdir(), 'rowcast-browser-'));
  const removeAtExit = () => rmSync(path, { recursive: true, force: true });
  process.once('exit', removeAtExit);
  t.after(async () => {
    process.off('exit', removeAtExit);
    await rm(path, { recursive: true, force: true });
  });
  return path;
}

// A server that can be stopped and started again at the same port, with the same data.
export class Server {
  #dataDir;
  #options;
  #token;
  #child = null;
  #port = 0;

  constructor(dataDir, options, token) {
    this.#dataDir = dataDir;
    this.#options = options;
    this.#token = token;
  }

  // `token` is what the server's own requests are sent with.
  static async start(t, { options = [], token } = {}) {
    const server = new Server(await temporaryDirectory(t), options, token);
    t.after(() => server.stop('SIGKILL'));
    await server.start();
    return server;
  }

  // One that wants tokens; its own requests are granted this.
  static async guarded(t, grant, options = []) {
    const key = join(await temporaryDirectory(t), 'key');
    await writeFile(key, SECRET);
    return Server.start(t, { options: ['--jwt-key', key, ...options], token: tokenOf(grant) });
  }

  async start() {
    const listen = `127.0.0.1:${this.#port}`;
    const options = ['--listen', listen, '--data-dir', this.#dataDir, '--drain-seconds', '1', ...this.#options];
    const child = spawn(BINARY, options, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    const kill = () => child.kill('SIGKILL');
    process.prependOnceListener('exit', kill);
    child.once('exit', () => process.off('exit', kill));
    const log = [];
    child.stderr.on('data', (text) => log.push(text));
    const [, url, port] = await liveLine(child, log);
    this.url = url;
    this.#port = Number(port);
  }

  async stop(signal = 'SIGTERM') {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  // Where its data is.
  get dataDir() {
    return this.#dataDir;
  }

  // Sends a signal that does not end it.
  signal(name) {
    this.#child.kill(name);
  }

  async send(method, path, body) {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
        ...(this.#token && { authorization: `Bearer ${this.#token}` }),
      },
      body: body && JSON.stringify(body),
    });
    assert.ok(response.ok, `${method} ${path} answered ${response.status}`);
    return response;
  }

  add(product) {
    return this.send('POST', '/products', product);
  }

  patch(id, fields) {
    return this.send('PATCH', `/products/${id}`, fields);
  }
}

function liveLine(child, log) {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the server ended (${code}) before it was live: ${log.join('')}`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const match = LIVE_LINE.exec(line);
      if (match) resolve(match);
    });
  });
}
