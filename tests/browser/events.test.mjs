// EventSource in a browser: what it is told, what it resumes from, and that it comes back by itself.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server, startBrowser } from './support.mjs';

const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };
const CHAIR = { ...LAMP, productId: 2, productName: 'Chair' };

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

// A page of the server with an EventSource of this path, which remembers all that comes.
async function listener(t, server, path) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`${server.url}/healthz`);
  await page.evaluate((path) => {
    window.told = [];
    window.source = new EventSource(path);
    for (const type of ['open', 'error', 'message', 'close']) {
      window.source.addEventListener(type, (event) => {
        window.told.push({ type, id: event.lastEventId, json: event.data && JSON.parse(event.data) });
      });
    }
  }, path);
  return page;
}

// Waits until something was told, from the event of this number on; returns it, and the number of the next.
async function told(page, from, predicate) {
  const found = await page.waitForFunction(
    ([from, predicate]) => {
      const at = window.told.findIndex((event, number) => number >= from && new Function('event', predicate)(event));
      return at >= 0 && { ...window.told[at], next: at + 1 };
    },
    [from, `return ${predicate}`],
  );
  return found.jsonValue();
}

const REPLY = 'event.json?.reply === "events"';

test('it is told states and changes, with ids', async (t) => {
  const server = await Server.start(t);
  await server.add(LAMP);
  const page = await listener(t, server, '/events?productIDs=1,2');
  const snapshot = await told(page, 0, 'event.json?.action === "SNAPSHOT"');
  assert.deepEqual([snapshot.type, snapshot.json.product], ['message', LAMP]);
  assert.match(snapshot.id, new RegExp(`^[0-9a-v]+-${snapshot.json.version}$`));
  const { next, json } = await told(page, 0, REPLY);
  assert.deepEqual(json, { reply: 'events', ok: true, subscribed: 2 });
  await server.add(CHAIR);
  const change = await told(page, next, 'event.json?.action === "INSERT"');
  assert.deepEqual(change.json.product, CHAIR);
  await page.evaluate(() => window.source.close());
});

test('it comes back to a server that starts again, and is told what it does not have', async (t) => {
  const server = await Server.start(t);
  await server.add(LAMP);
  const page = await listener(t, server, '/events?productIDs=1');
  let at = await told(page, 0, REPLY);
  await server.stop();
  const closed = await told(page, at.next, 'event.type === "close"');
  assert.equal(closed.json.code, 1012);
  await server.start();
  at = await told(page, closed.next, REPLY);
  const again = await page.evaluate((from) => window.told.slice(from), closed.next);
  assert.deepEqual(again.filter(({ json }) => json?.action), [], 'the row is as it was');
  await server.patch(1, { unitsAvailable: 6 });
  const change = await told(page, at.next, 'event.json?.action === "UPDATE"');
  assert.equal(change.json.product.unitsAvailable, 6);
});

test('it gives up on what the server refuses', async (t) => {
  const server = await Server.start(t);
  const page = await listener(t, server, '/events?productIDs=none');
  await told(page, 0, 'event.type === "error"');
  assert.equal(await page.evaluate(() => window.source.readyState), 2);
});
