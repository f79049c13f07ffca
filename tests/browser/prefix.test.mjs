// The page behind a proxy that serves it under a path of its own, which it takes off.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { assertFaultless, openPage, row, Server, startBrowser, waitForText, cell } from './support.mjs';

const PREFIX = '/shop/live';
const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };

// Passes on what is under the prefix, and nothing else.
async function startProxy(t, server) {
  const { hostname, port } = new URL(server.url);
  const inside = (path) => (path.startsWith(`${PREFIX}/`) ? path.slice(PREFIX.length) : null);
  const proxy = createServer((asked, answer) => {
    const path = inside(asked.url);
    if (path === null) return answer.writeHead(404).end();
    const passed = request({ hostname, port, path, method: asked.method, headers: asked.headers }, (answered) => {
      answer.writeHead(answered.statusCode, answered.rawHeaders);
      answered.pipe(answer);
    });
    asked.pipe(passed);
  });
  proxy.on('upgrade', (asked, socket) => {
    const path = inside(asked.url);
    if (path === null) return socket.destroy();
    const passed = connect(Number(port), hostname, () => {
      const headers = asked.rawHeaders.map((text, at) => (at % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join('');
      passed.write(`GET ${path} HTTP/1.1\r\n${headers}\r\n`);
      passed.pipe(socket);
      socket.pipe(passed);
    });
    for (const end of [passed, socket]) end.on('error', () => {});
    t.after(() => passed.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  return { url: `http://127.0.0.1:${proxy.address().port}` };
}

test('under a path prefix the page loads, lists, writes and follows', async (t) => {
  const browser = await startBrowser(t);
  const server = await Server.start(t);
  await server.add(LAMP);
  const proxy = await startProxy(t, server);
  const page = await openPage(t, browser, proxy, { path: `${PREFIX}/` });
  await row(page, 1).waitFor();
  await server.patch(1, { unitsAvailable: 77 });
  await waitForText(cell(page, 1, 'unitsAvailable'), '77');
  await row(page, 1).locator('button.delete').click();
  await row(page, 1).locator('button.delete').click();
  await row(page, 1).waitFor({ state: 'detached' });
  assert.equal((await fetch(`${server.url}/products/1`)).status, 404);
  assertFaultless(page);
});
