// A server that goes away and comes back: the pages do too, by themselves.

import { after, before, test } from 'node:test';
import { assertFaultless, cell, live, openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };
const CHAIR = { ...LAMP, productId: 2, productName: 'Chair' };
const TABLE = { ...LAMP, productId: 3, productName: 'Table' };

// What Chromium writes when nothing listens.
const REFUSED = /^console: (WebSocket connection to .* failed|Failed to load resource: net::ERR_)/;

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`after ${signal} both pages come back, with what changed meanwhile and what changes then`, async (t) => {
    const server = await Server.start(t);
    await server.add(LAMP);
    await server.add(CHAIR);
    const pages = await Promise.all([openPage(t, browser, server), openPage(t, browser, server)]);
    for (const page of pages) await row(page, 2).waitFor();

    await server.stop(signal);
    for (const page of pages) await page.locator('#state:not([data-state="live"])').waitFor();
    await server.start();
    await server.patch(1, { unitsAvailable: 6 });
    await server.send('DELETE', '/products/2');
    await server.add(TABLE);
    for (const page of pages) {
      await live(page);
      await waitForText(cell(page, 1, 'unitsAvailable'), /^6$/);
      await row(page, 2).waitFor({ state: 'detached' });
      await row(page, 3).waitFor();
    }
    await server.patch(1, { unitsAvailable: 7 });
    for (const page of pages) {
      await waitForText(cell(page, 1, 'unitsAvailable'), /^7$/);
      assertFaultless(page, REFUSED);
    }
  });
}

test('what changed while a page was away is shown when it is back', async (t) => {
  const server = await Server.start(t);
  await server.add(LAMP);
  await server.add(CHAIR);
  // The page's sockets are refused while it is away; its reads are not.
  let away = false;
  const sockets = [];
  const prepare = (page) =>
    page.routeWebSocket(/\/websocket$/, (socket) => {
      if (away) return socket.close({ code: 1013 });
      socket.connectToServer();
      sockets.push(socket);
    });
  const page = await openPage(t, browser, server, { prepare });
  await row(page, 2).waitFor();
  away = true;
  await sockets[0].close({ code: 1001 });
  await page.locator('#state[data-state="reconnecting"]').waitFor();
  await server.patch(1, { unitsAvailable: 6 });
  await server.send('DELETE', '/products/2');
  await server.add(TABLE);
  away = false;
  await page.evaluate(() => document.querySelector('#retry').click());
  await live(page);
  await waitForText(cell(page, 1, 'unitsAvailable'), /^6$/);
  await row(page, 2).waitFor({ state: 'detached' });
  await row(page, 3).waitFor();
});

test('a write that cannot reach the server says so, and nothing typed is lost', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, browser, server);
  await page.click('#add');
  await page.getByLabel('Product name').fill('Lamp');
  await page.getByLabel('Manufacturer').fill('Lumen');
  await page.getByLabel('Price').fill('74EUR');
  await page.getByLabel('Units').fill('5');
  await server.stop('SIGKILL');
  await page.locator('#editor-save').click();
  await waitForText(page.locator('#editor-error'), 'The server cannot be reached');
  await server.start();
  await live(page);
  await page.locator('#editor-save').click();
  await waitForText(cell(page, 1, 'productName'), /^Lamp$/);
  assertFaultless(page, REFUSED);
});
