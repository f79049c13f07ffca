// Frames that a test cannot make a server send at will: the page's socket is answered by the test, or passed on to the
// server with frames of the test between.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertFaultless, cell, live, openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

// A page whose newest socket is `sockets.at(-1)`; `relay` decides what the page hears of the server.
async function pageBetween(t, relay = () => true) {
  const server = await Server.start(t);
  await server.add(LAMP);
  const sockets = [];
  const prepare = (page) =>
    page.routeWebSocket(/\/websocket$/, (socket) => {
      const upstream = socket.connectToServer();
      upstream.onMessage((text) => relay(JSON.parse(text)) && socket.send(text));
      sockets.push(socket);
    });
  const page = await openPage(t, browser, server, { prepare });
  await row(page, 1).waitFor();
  const say = (frame) => sockets.at(-1).send(JSON.stringify(frame));
  return { server, page, sockets, say };
}

test('skipped changes are counted', async (t) => {
  const { page, say } = await pageBetween(t);
  await waitForText(page.locator('#skipped'), /^0$/);
  say({ skipped: 3 });
  say({ skipped: 1039 });
  await waitForText(page.locator('#skipped'), /^1,042$/);
  assertFaultless(page);
});

test('a change without its row is read from the server', async (t) => {
  const { server, page, say } = await pageBetween(t, (frame) => frame.action === undefined);
  const { version } = await (await server.patch(1, { unitsAvailable: 6 })).json();
  say({ action: 'UPDATE', version, product: { productId: 1 } });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^6$/);
  assertFaultless(page);
});

test('an old change does not undo a newer one', async (t) => {
  const { server, page, say } = await pageBetween(t);
  const { version } = await (await server.patch(1, { unitsAvailable: 6 })).json();
  say({ action: 'UPDATE', version: version - 1, product: { ...LAMP, unitsAvailable: 7 } });
  await server.patch(1, { productName: 'Floor lamp' });
  await waitForText(cell(page, 1, 'productName'), /^Floor lamp$/);
  await waitForText(cell(page, 1, 'unitsAvailable'), /^6$/);
});

test('an error of the server is shown', async (t) => {
  const { page, say } = await pageBetween(t);
  say({ error: 'that was no command', code: 'bad_command' });
  await waitForText(page.getByRole('alert'), 'that was no command');
  await page.getByRole('button', { name: 'Close this message' }).click();
  await page.locator('#notice').waitFor({ state: 'hidden' });
});

test('a page that the server sends away comes back when it was told to', async (t) => {
  const { server, page, sockets, say } = await pageBetween(t);
  say({ reconnect: { afterMs: 0 } });
  await sockets[0].close({ code: 1012 });
  await page.waitForFunction(() => document.querySelector('#state').dataset.state === 'live');
  await server.patch(1, { unitsAvailable: 9 });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^9$/);
  assert.equal(sockets.length, 2);
});

test('a network that comes back is used at once', async (t) => {
  const { page, sockets, say } = await pageBetween(t);
  say({ reconnect: { afterMs: 600_000 } });
  await sockets[0].close({ code: 1012 });
  await waitForText(page.locator('#state-text'), /^Reconnecting in \d+ s$/);
  await page.evaluate(() => dispatchEvent(new Event('online')));
  await live(page);
  await waitForText(page.locator('#state-announced'), /^Live$/);
});
