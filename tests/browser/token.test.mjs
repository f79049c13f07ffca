// A server that wants tokens: the page brings one along, or asks for one, and shows what it may read.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { tokenOf as token } from './jwt.mjs';
import {
  assertFaultless, live, openPage, row, Server, startBrowser, waitForText,
} from './support.mjs';

const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };
// What Chromium writes when a handshake or a request is answered 401.
const REFUSED = /^console: (WebSocket connection to .* failed|Failed to load resource: .* 401)/;

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

const EVERYTHING = { read: '*', write: true };

async function guarded(t) {
  const server = await Server.guarded(t, EVERYTHING);
  await server.add(LAMP);
  await server.add({ ...LAMP, productId: 2, productName: 'Chair' });
  return server;
}

test('a token in the address is used, kept for the tab, and no longer shown', async (t) => {
  const server = await guarded(t);
  const page = await openPage(t, browser, server, { path: `/#token=${token(EVERYTHING)}` });
  await row(page, 2).waitFor();
  assert.equal(page.url(), `${server.url}/`);
  await page.reload();
  await live(page);
  await page.getByRole('button', { name: 'Edit Lamp' }).click();
  await page.getByLabel('Units').fill('12');
  await page.locator('#editor-save').click();
  await waitForText(row(page, 1).locator('.unitsAvailable'), /^12$/);
  assertFaultless(page);
});

test('a page without a token asks for one, and again when it is wrong', async (t) => {
  const server = await guarded(t);
  const dialog = (page) => page.locator('#token[open]');
  const page = await openPage(t, browser, server, { ready: (page) => dialog(page).waitFor() });
  await page.getByRole('textbox', { name: 'Token' }).fill('wrong');
  await page.getByRole('button', { name: 'Connect' }).click();
  await waitForText(dialog(page), /not accepted/);
  await page.getByRole('textbox', { name: 'Token' }).fill(token(EVERYTHING));
  await page.getByRole('button', { name: 'Connect' }).click();
  await live(page);
  await row(page, 2).waitFor();
  assertFaultless(page, REFUSED);
});

for (const broken of ['eyJhbGciOiJIUzI1NiJ9.eyJ…', '日本', 'two words']) {
  test(`a token that no browser can send, ${broken}, is asked for again, also after a reload`, async (t) => {
    const server = await guarded(t);
    const dialog = (page) => page.locator('#token[open]');
    const page = await openPage(t, browser, server, { ready: (page) => dialog(page).waitFor() });
    await page.getByRole('textbox', { name: 'Token' }).fill(broken);
    await page.getByRole('button', { name: 'Connect' }).click();
    await waitForText(dialog(page), /not accepted/);
    await page.reload();
    await waitForText(dialog(page), /not accepted/);
    assert.equal(await page.locator('#notice').isVisible(), false);
    await page.getByRole('textbox', { name: 'Token' }).fill(token(EVERYTHING));
    await page.getByRole('button', { name: 'Connect' }).click();
    await live(page);
    assertFaultless(page, REFUSED);
  });
}

test('a page whose token reads no product says so, and waits for none', async (t) => {
  const server = await guarded(t);
  const ready = (page) => page.locator('#state[data-state="refused"]').waitFor();
  const page = await openPage(t, browser, server, { path: `/#token=${token({ read: [] })}`, ready });
  await waitForText(page.getByRole('alert'), /^Your token does not let you see any product\.$/);
  assert.equal(await page.locator('#loading').isVisible(), false);
  assertFaultless(page);
  const path = `/?table=orders#token=${token({ read: '*' })}`;
  const named = await openPage(t, browser, server, { path, ready });
  await waitForText(named.getByRole('alert'), /^Your token does not let you see the table “orders”\.$/);
  assertFaultless(named);
});

test('a page that sees some products proposes no id', async (t) => {
  const server = await guarded(t);
  const page = await openPage(t, browser, server, { path: `/#token=${token({ read: [1], write: true })}` });
  await row(page, 1).waitFor();
  await page.click('#add');
  assert.equal(await page.getByLabel('ID', { exact: true }).inputValue(), '');
  assertFaultless(page);
});

test('what a token lets the page read is shown and live, and nothing is said of the rest', async (t) => {
  const server = await guarded(t);
  const page = await openPage(t, browser, server, { path: `/#token=${token({ read: [1] })}` });
  await row(page, 1).waitFor();
  await server.patch(2, { unitsAvailable: 8 });
  await server.patch(1, { unitsAvailable: 7 });
  await waitForText(row(page, 1).locator('.unitsAvailable'), /^7$/);
  assert.equal(await row(page, 2).count(), 0);
  assert.equal(await page.locator('#notice').isVisible(), false);
  assertFaultless(page);
});

test('a page whose token may not write shows no buttons that would', async (t) => {
  const server = await guarded(t);
  const page = await openPage(t, browser, server, { path: `/#token=${token({ read: '*' })}` });
  await row(page, 2).waitFor();
  for (const name of [/Add/, /Edit/, /Delete/]) assert.equal(await page.getByRole('button', { name }).count(), 0);
  assert.equal(await page.getByRole('columnheader').count(), 6);
  await server.patch(1, { unitsAvailable: 7 });
  await waitForText(row(page, 1).locator('.unitsAvailable'), /^7$/);
  for (const id of [1, 2]) await server.send('DELETE', `/products/${id}`);
  await waitForText(page.locator('#empty'), 'As soon as there is one, it appears here.');
  assert.equal(await page.getByRole('button', { name: /Add/ }).count(), 0);
  assertFaultless(page);
});

test('a write that is forbidden all the same takes the buttons away', async (t) => {
  const server = await guarded(t);
  const prepare = (page) =>
    page.route('**/products/1', (route) => route.fulfill({ status: 403, json: { detail: 'not with this token' } }));
  const page = await openPage(t, browser, server, { path: `/#token=${token(EVERYTHING)}`, prepare });
  await page.getByRole('button', { name: 'Delete Lamp', exact: true }).click();
  await page.getByRole('button', { name: 'Confirm: Delete Lamp' }).click();
  await waitForText(page.getByRole('alert'), 'not with this token');
  assert.equal(await page.getByRole('button', { name: /Add|Edit|Delete/ }).count(), 0);
});

test('a page whose token expires asks for another', async (t) => {
  const server = await guarded(t);
  // A busy machine may load the page only after that.
  const ready = (page) => page.locator('#token[open]').waitFor();
  const page = await openPage(t, browser, server, { path: `/#token=${token(EVERYTHING, 4)}`, ready });
  await waitForText(page.locator('#token'), /expired/);
  await page.getByRole('textbox', { name: 'Token' }).fill(token(EVERYTHING));
  await page.getByRole('button', { name: 'Connect' }).click();
  await live(page);
  assertFaultless(page, REFUSED);
});
