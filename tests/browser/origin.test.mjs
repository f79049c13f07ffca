// Pages of other origins, in a browser: only those that the server is told of may use it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { Server, startBrowser } from './support.mjs';

const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

// An empty page of another origin.
async function otherSite(t) {
  const site = createServer((request, response) => response.end('<!doctype html>'));
  site.listen(0, '127.0.0.1');
  await once(site, 'listening');
  t.after(() => site.close());
  return `http://127.0.0.1:${site.address().port}`;
}

// What a script of that page can do with the server.
async function tried(t, origin, url) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(origin);
  return page.evaluate(
    async ([url, lamp]) => {
      const outcome = (promise) => promise.then((value) => value, () => 'refused');
      const headers = { 'content-type': 'application/json', authorization: 'Bearer not-needed' };
      const write = { method: 'PUT', headers, body: JSON.stringify(lamp) };
      const speaks = (...protocols) =>
        new Promise((resolve) => {
          const socket = new WebSocket(`${url.replace('http', 'ws')}/websocket`, protocols);
          socket.onopen = () => resolve(`speaks ${socket.protocol}`);
          socket.onerror = () => resolve('refused');
        });
      return {
        read: await outcome(fetch(`${url}/products`).then((response) => response.json()).then(({ next }) => next)),
        written: await outcome(fetch(`${url}/products/1`, write).then((response) => response.headers.get('etag') !== null)),
        socket: await speaks('rowcast', 'bearer.not-needed'),
        alone: await speaks('bearer.not-needed'),
      };
    },
    [url, LAMP],
  );
}

test('a page of another origin can do nothing', async (t) => {
  const server = await Server.start(t);
  const outcome = await tried(t, await otherSite(t), server.url);
  assert.deepEqual(outcome, { read: 'refused', written: 'refused', socket: 'refused', alone: 'refused' });
  assert.equal((await fetch(`${server.url}/products/1`)).status, 404);
});

test('a page of an allowed origin can read, write and open sockets', async (t) => {
  const origin = await otherSite(t);
  const server = await Server.start(t, { options: ['--allowed-origin', origin] });
  const outcome = await tried(t, origin, server.url);
  assert.deepEqual(outcome, { read: null, written: true, socket: 'speaks rowcast', alone: 'speaks bearer.not-needed' });
});
