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

// A page whose newest socket is `sockets.at(-1)`; `relay` decides what the page hears of the server. `asked` are the
// commands that the page has sent.
async function pageBetween(t, { relay = () => true, options = [], ready } = {}) {
  const server = await Server.start(t, { options });
  await server.add(LAMP);
  const sockets = [];
  const asked = [];
  const prepare = (page) =>
    page.routeWebSocket(/\/websocket$/, (socket) => {
      const upstream = socket.connectToServer();
      upstream.onMessage((text) => relay(JSON.parse(text)) && socket.send(text));
      socket.onMessage((text) => {
        asked.push(JSON.parse(text));
        upstream.send(text);
      });
      sockets.push(socket);
    });
  const page = await openPage(t, browser, server, { prepare, ready });
  await row(page, 1).waitFor();
  const say = (frame) => sockets.at(-1).send(JSON.stringify(frame));
  return { server, page, sockets, asked, say };
}

function state(page, name) {
  return page.locator(`#state[data-state="${name}"]`).waitFor();
}

function opacity(page, id) {
  return row(page, id).evaluate((element) => Number(getComputedStyle(element).opacity));
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
  const { server, page, say } = await pageBetween(t, { relay: (frame) => frame.action !== 'UPDATE' });
  const { version } = await (await server.patch(1, { unitsAvailable: 6 })).json();
  say({ action: 'UPDATE', version, product: { productId: 1 } });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^6$/);
  assertFaultless(page);
});

test('everything is asked for in one command, and after a reconnect with what is known', async (t) => {
  const { server, page, sockets, asked, say } = await pageBetween(t);
  const [{ id, ...ask }] = asked;
  assert.deepEqual(ask, { command: 'subscribe', table: 'products', keys: '*', snapshot: true });
  const { version } = await (await server.patch(1, { unitsAvailable: 6 })).json();
  await waitForText(cell(page, 1, 'unitsAvailable'), /^6$/);
  say({ reconnect: { afterMs: 0 } });
  await sockets[0].close({ code: 1012 });
  await page.waitForFunction(() => document.querySelector('#state').dataset.state === 'live');
  assert.equal(asked.length, 2);
  assert.equal(asked[1].newest, version);
  assert.equal(typeof asked[1].epoch, 'string');
  assertFaultless(page);
});

test('while the source is lost, rows look old and nothing says Live; when it is back they do not', async (t) => {
  const { page, say } = await pageBetween(t);
  assert.equal(await opacity(page, 1), 1);
  await page.locator('#old-note').waitFor({ state: 'hidden' });
  say({ live: false });
  await state(page, 'stale');
  await waitForText(page.locator('#state-text'), /^Not live$/);
  await waitForText(page.locator('#old-note'), /^may be out of date$/);
  assert.ok((await opacity(page, 1)) < 0.7);
  say({ live: true });
  await state(page, 'live');
  await page.locator('#old-note').waitFor({ state: 'hidden' });
  assert.equal(await opacity(page, 1), 1);
  assertFaultless(page);
});

test('while the connection is lost, rows look old, until everything has been told again', async (t) => {
  const kept = [];
  let isHeld = false;
  const relay = (frame) => !(isHeld && frame.reply !== undefined && kept.push(frame));
  const { page, sockets, say } = await pageBetween(t, { relay });
  say({ reconnect: { afterMs: 60_000 } });
  await sockets[0].close({ code: 1012 });
  await state(page, 'reconnecting');
  assert.ok((await opacity(page, 1)) < 0.7);
  isHeld = true;
  await page.getByRole('button', { name: 'Retry now' }).click();
  await state(page, 'syncing');
  assert.ok((await opacity(page, 1)) < 0.7);
  while (kept.length === 0) await new Promise((resolve) => setImmediate(resolve));
  say(kept[0]);
  await live(page);
  assert.equal(await opacity(page, 1), 1);
});

test('absent products go, and an older change does not bring them back', async (t) => {
  const { server, page, say } = await pageBetween(t);
  const { version } = await (await server.add({ ...LAMP, productId: 2 })).json();
  await row(page, 2).waitFor();
  say({ absent: [1, 7], versions: [version + 5, 0] });
  await row(page, 1).waitFor({ state: 'detached' });
  await waitForText(page.locator('#count'), /^1$/);
  say({ action: 'UPDATE', version: version + 4, product: LAMP });
  say({ action: 'UPDATE', version: version + 6, product: { ...LAMP, productId: 2, unitsAvailable: 77 } });
  await waitForText(cell(page, 2, 'unitsAvailable'), /^77$/);
  assert.equal(await row(page, 1).count(), 0);
  assertFaultless(page);
});

test('in another epoch versions begin again, and everything is asked for anew', async (t) => {
  const { server, page, asked, say } = await pageBetween(t);
  const { version } = await (await server.add({ ...LAMP, productId: 2 })).json();
  await row(page, 2).waitFor();
  say({ action: 'UPDATE', version: version + 1_000_000, product: { ...LAMP, unitsAvailable: 99 } });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^99$/);
  say({ epoch: 'another' });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^5$/);
  await live(page);
  assert.equal(asked.length, 2);
  assertFaultless(page);
});

test('where skipped changes never come, everything is asked for anew', async (t) => {
  const { server, page, asked, say } = await pageBetween(t, {
    options: ['--slow-consumer', 'drop'],
    relay: (frame) => frame.action !== 'UPDATE' || frame.product.unitsAvailable !== 6,
  });
  await server.patch(1, { unitsAvailable: 6 });
  await server.patch(1, { unitsAvailable: 8 });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^8$/);
  say({ skipped: 2 });
  await state(page, 'syncing');
  await live(page);
  assert.equal(asked.length, 2);
  assert.equal(asked[1].snapshot, true);
});

test('where their newest state comes, skipped changes are nothing to ask for', async (t) => {
  const { server, page, asked, say } = await pageBetween(t);
  say({ skipped: 2 });
  await waitForText(page.locator('#skipped'), /^2$/);
  await server.patch(1, { unitsAvailable: 8 });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^8$/);
  await live(page);
  assert.equal(asked.length, 1);
});

test('a page that is refused says why, and shows nothing as live', async (t) => {
  const server = await Server.start(t);
  const error = 'there are more than 2 products';
  const prepare = (page) =>
    page.routeWebSocket(/\/websocket$/, (socket) => {
      socket.onMessage((text) => {
        socket.send(JSON.stringify({ reply: JSON.parse(text).id, ok: false, error, code: 'too_many_rows' }));
      });
    });
  const page = await openPage(t, browser, server, { prepare, ready: (page) => state(page, 'refused') });
  await waitForText(page.getByRole('alert'), error);
  await waitForText(page.locator('#state-text'), /^Not available$/);
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
  await live(page);
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
