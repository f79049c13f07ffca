// The form: what the server refuses is said beside it, what was typed stays, and no mouse is needed.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertFaultless, cell, openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const CHAIR = { productName: 'Chair', manufacturer: 'Sede', pricePerUnit: '5EUR', unitsAvailable: 3 };
const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };

// What Chromium writes for every answer that is an error.
const REFUSED = /^console: Failed to load resource: the server responded with a status of 4/;

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

async function pageWithLamp(t) {
  const server = await Server.start(t);
  await server.add(LAMP);
  const page = await openPage(t, browser, server);
  await row(page, 1).waitFor();
  return { server, page };
}

async function type(page, values) {
  for (const [name, value] of Object.entries(values)) await page.locator(`[name=${name}]`).fill(String(value));
}

function typed(page) {
  return page.locator('#editor input').evaluateAll((inputs) => inputs.map((input) => input.value));
}

// The detail that the server itself gives for a body.
async function detailOf(server, body) {
  const response = await fetch(`${server.url}/products`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return (await response.json()).detail;
}

test('an id that is taken is said, and the next try goes through', async (t) => {
  const { page } = await pageWithLamp(t);
  await page.click('#add');
  assert.equal((await typed(page))[0], '2');
  await type(page, { ...CHAIR, productId: 1 });
  await page.locator('#editor-save').click();
  await waitForText(page.locator('#editor-error'), /^There is a product 1 already\. Choose another ID\.$/);
  assert.deepEqual(await typed(page), ['1', 'Chair', 'Sede', '5EUR', '3']);
  await type(page, { productId: '2' });
  await page.locator('#editor-save').click();
  await waitForText(cell(page, 2, 'productName'), /^Chair$/);
  await waitForText(cell(page, 1, 'productName'), /^Lamp$/);
  assertFaultless(page, REFUSED);
});

test('what the server finds wrong is shown in its words', async (t) => {
  const { server, page } = await pageWithLamp(t);
  await page.click('#add');
  const chair = { ...CHAIR, productId: 2, productName: '\0' };
  await type(page, chair);
  await page.locator('#editor-save').click();
  await waitForText(page.locator('#editor-error'), await detailOf(server, chair));
  assertFaultless(page, REFUSED);
});

for (const [name, value] of [['unitsAvailable', 'a few'], ['unitsAvailable', '1.5'], ['productId', '-4'], ['productId', '9007199254740992']]) {
  test(`a number that no product can have, ${name} ${value}, is refused in its field`, async (t) => {
    const { page } = await pageWithLamp(t);
    await page.click('#add');
    await type(page, { ...CHAIR, [name]: value });
    await page.locator('#editor-save').click();
    await page.locator(`[name=${name}]:focus:invalid`).waitFor();
    assertFaultless(page);
  });
}

test('a form that is closed and opened again has what was typed', async (t) => {
  const { page } = await pageWithLamp(t);
  await page.click('#add');
  await type(page, { productName: 'Half a ch' });
  await page.keyboard.press('Escape');
  await page.locator('#editor').waitFor({ state: 'hidden' });
  await page.click('#add');
  assert.deepEqual(await typed(page), ['2', 'Half a ch', '', '', '']);
});

test('an edit saves the fields that were edited, and the others follow what happens elsewhere', async (t) => {
  const { server, page } = await pageWithLamp(t);
  await page.getByRole('button', { name: 'Edit Lamp' }).click();
  await type(page, { unitsAvailable: '50' });
  await server.patch(1, { pricePerUnit: '80EUR', unitsAvailable: 4 });
  await waitForText(page.locator('#editor-note'), 'changed elsewhere');
  assert.deepEqual(await typed(page), ['1', 'Lamp', 'Lumen', '80EUR', '50']);
  await server.patch(1, { manufacturer: 'Lumen & Co' });
  await page.locator('#editor-save').click();
  await waitForText(cell(page, 1, 'unitsAvailable'), /^50$/);
  await waitForText(cell(page, 1, 'pricePerUnit'), /^80EUR$/);
  await waitForText(cell(page, 1, 'manufacturer'), /^Lumen & Co$/);
  assertFaultless(page);
});

test('an edit of a product that was deleted elsewhere says so', async (t) => {
  const { server, page } = await pageWithLamp(t);
  await page.getByRole('button', { name: 'Edit Lamp' }).click();
  await type(page, { unitsAvailable: '50' });
  await server.send('DELETE', '/products/1');
  await waitForText(page.locator('#editor-note'), 'deleted elsewhere');
  await page.locator('#editor-save').click();
  await page.locator('#editor-error:not(:empty)').waitFor();
  assert.equal((await typed(page))[4], '50');
  assertFaultless(page, REFUSED);
});

test('one click, a double click, and a click that is thought better of delete nothing', async (t) => {
  const { server, page } = await pageWithLamp(t);
  const remove = row(page, 1).locator('.delete');
  await remove.dblclick();
  await row(page, 1).locator('.delete.confirming').waitFor();
  await page.keyboard.press('Escape');
  await row(page, 1).locator('.delete:not(.confirming)').waitFor();
  await remove.click();
  await row(page, 1).locator('.edit').focus();
  await row(page, 1).locator('.delete:not(.confirming)').waitFor();
  await server.patch(1, { unitsAvailable: 6 });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^6$/);
});

test('a product is added, edited and deleted with the keyboard alone', async (t) => {
  const { page } = await pageWithLamp(t);
  const { keyboard } = page;
  await tabTo(page, '#add');
  await keyboard.press('Enter');
  await page.locator('[name=productName]:focus').waitFor();
  for (const text of ['Chair', 'Sede', '5EUR']) {
    await keyboard.type(text);
    await keyboard.press('Tab');
  }
  await keyboard.type('3');
  await keyboard.press('Enter');
  await waitForText(cell(page, 2, 'productName'), /^Chair$/);
  await page.locator('#add:focus').waitFor();

  await tabTo(page, 'tr[data-id="2"] .edit');
  await keyboard.press('Enter');
  await page.locator('[name=productName]:focus').waitFor();
  await keyboard.type('Armchair');
  await keyboard.press('Enter');
  await waitForText(cell(page, 2, 'productName'), /^Armchair$/);

  await tabTo(page, 'tr[data-id="2"] .delete');
  await keyboard.press('Enter');
  await page.locator('.delete.confirming:focus').waitFor();
  await keyboard.press('Enter');
  await row(page, 2).waitFor({ state: 'detached' });
  await page.locator('tr[data-id="1"] .edit:focus').waitFor();
  assertFaultless(page);
});

const TABS_MAX = 20;

async function tabTo(page, selector) {
  for (let i = 0; i < TABS_MAX; i += 1) {
    if ((await page.locator(`${selector}:focus`).count()) > 0) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`${selector} is not reached with the Tab key`);
}
