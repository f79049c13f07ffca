// The JavaScript client in pages of another origin, in each browser: those of the README and the guide, as they stand there.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { Server, startBrowser, startFirefox, waitForText } from './support.mjs';

const ROOT = new URL('../../', import.meta.url);
const SHOWN_SERVER = 'http://127.0.0.1:8080';
const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };

// The page that a document shows, of a server.
function shownPage(document, { url }) {
  const [, page] = /```html\n(.*?)```/s.exec(readFileSync(new URL(document, ROOT), 'utf8'));
  assert.ok(page.includes(SHOWN_SERVER));
  return page.replaceAll(SHOWN_SERVER, url);
}

// Serves one page, `its.page`, and nothing else.
async function site(t) {
  const its = { page: '' };
  const listener = createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(its.page);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.after(() => listener.close());
  return Object.assign(its, { url: `http://127.0.0.1:${listener.address().port}` });
}

for (const [name, start] of [['Chromium', startBrowser], ['Firefox', startFirefox]]) {
  describe(name, () => {
    let browser;
    const cleanups = [];
    before(async () => {
      browser = await start({ after: (run) => cleanups.push(run) });
    });
    after(() => Promise.all(cleanups.map((run) => run())));

    async function opened(t, prepare) {
      const its = await site(t);
      const server = await Server.start(t, { options: ['--allowed-origin', its.url] });
      await prepare(server, its);
      const page = await browser.newPage();
      t.after(() => page.close());
      return { server, page, go: () => page.goto(its.url) };
    }

    test("the guide's page follows a table, and comes back with its server", async (t) => {
      const { server, page, go } = await opened(t, async (server, its) => {
        its.page = shownPage('docs/clients.md', server);
        await server.send('PUT', '/tables/orders/17', { state: 'placed' });
      });
      await go();
      await waitForText(page.locator('li'), /^17: placed$/);
      await waitForText(page.locator('#state'), /^live$/);
      await server.stop('SIGKILL');
      await waitForText(page.locator('#state'), /^stale$/);
      await server.start();
      await server.send('PUT', '/tables/orders/18', { state: 'paid' });
      await waitForText(page.locator('li').last(), /^18: paid$/);
      await server.send('DELETE', '/tables/orders/17');
      await page.getByText('17: placed').waitFor({ state: 'detached' });
      await waitForText(page.locator('#state'), /^live$/);
    });

    test("the README's page follows a product", async (t) => {
      const { server, page, go } = await opened(t, (server, its) => (its.page = shownPage('README.md', server)));
      await go();
      await waitForText(page.locator('#state'), /^live$/);
      await waitForText(page.locator('#row'), 'no product 1 yet');
      await server.add(LAMP);
      await waitForText(page.locator('#row'), '"productName": "Lamp"');
      await server.send('DELETE', '/products/1');
      await waitForText(page.locator('#row'), 'deleted');
    });

    test('a page that was told when to come back waits, until it is online or looked at again', async (t) => {
      const { page, go } = await opened(t, (server, its) => (its.page = shownPage('README.md', server)));
      const sockets = [];
      let came;
      await page.routeWebSocket(/\/websocket$/, (socket) => {
        socket.connectToServer();
        sockets.push(socket);
        came?.();
      });
      await go();
      await waitForText(page.locator('#state'), /^live$/);
      for (const event of ["window.dispatchEvent(new Event('online'))", "document.dispatchEvent(new Event('visibilitychange'))"]) {
        const socket = sockets.at(-1);
        socket.send(JSON.stringify({ reconnect: { afterMs: 600_000 } }));
        await socket.close({ code: 1012 });
        await waitForText(page.locator('#state'), /^stale$/);
        const next = new Promise((resolve) => (came = resolve));
        await page.evaluate(event);
        await next;
        await waitForText(page.locator('#state'), /^live$/);
      }
      assert.equal(sockets.length, 3);
    });
  });
}
