// A long table: it is shown whole though few of its rows are drawn, searched, sorted, and used without a mouse.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { addMany, assertFaultless, cell, openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const MANY = 10_000;
const DRAWN_MAX = 80;

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

function product(productId, fields = {}) {
  const rest = { manufacturer: 'Maker', pricePerUnit: '5EUR', unitsAvailable: productId };
  return { productId, productName: `Thing ${productId}`, ...rest, ...fields };
}

async function pageWith(t, products, options) {
  const server = await Server.start(t);
  await addMany(server, products);
  const page = await openPage(t, browser, server, options);
  return { server, page };
}

function count(page, text) {
  return waitForText(page.locator('#count'), text);
}

// The ids of the rows as they are seen, from above.
function seen(page) {
  return page.locator('tbody tr[data-id]').evaluateAll((rows) =>
    rows
      .map((row) => [row.getBoundingClientRect().top, Number(row.dataset.id)])
      .sort(([one], [other]) => one - other)
      .map(([, id]) => id),
  );
}

function inDocument(page) {
  return page.locator('tbody tr[data-id]').evaluateAll((rows) => rows.map((row) => Number(row.dataset.id)));
}

// The rows come from the test, since no store is filled with so many in a moment.
async function pageWithMany(t) {
  const server = await Server.start(t);
  let say;
  const prepare = (page) =>
    page.routeWebSocket(/\/websocket$/, (socket) => {
      socket.connectToServer();
      say = (action, version, row) => socket.send(JSON.stringify({ action, version, product: row }));
    });
  const page = await openPage(t, browser, server, { prepare });
  for (let id = 1; id <= MANY; id += 1) say('SNAPSHOT', id, product(id));
  await count(page, /^10,000$/);
  return { page, say };
}

test('ten thousand products are shown, of which only those in view are drawn', async (t) => {
  const { page, say } = await pageWithMany(t);
  const table = page.getByRole('table', { name: 'Products' });
  assert.equal(await table.getAttribute('aria-rowcount'), String(MANY + 1));
  await row(page, 1).waitFor();
  assert.equal(await row(page, 1).getAttribute('aria-rowindex'), '2');
  assert.ok((await page.locator('tbody tr').count()) <= DRAWN_MAX);

  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await row(page, MANY).waitFor();
  assert.equal(await row(page, MANY).getAttribute('aria-rowindex'), String(MANY + 1));
  await row(page, 1).waitFor({ state: 'detached' });
  assert.ok((await page.locator('tbody tr').count()) <= DRAWN_MAX);
  const box = await row(page, MANY).boundingBox();
  assert.ok(box.y > 0 && box.y + box.height <= 800, 'the last row is in view');

  // What is not in view is live all the same.
  say('UPDATE', MANY + 1, product(2, { unitsAvailable: 77 }));
  say('INSERT', MANY + 2, product(MANY + 1));
  await row(page, MANY + 1).waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await waitForText(cell(page, 2, 'unitsAvailable'), /^77$/);
  await count(page, /^10,001$/);

  await page.getByLabel('Search by name or ID').fill('thing 777');
  await count(page, /^19 of 10,001$/);
  await waitForText(page.locator('#found'), /^19 found$/);
  assertFaultless(page);
});

test('a search shows what it finds, also of what comes later, and says when there is nothing', async (t) => {
  const { server, page } = await pageWith(t, [
    product(1, { productName: 'Desk lamp' }),
    product(2, { productName: 'Chair' }),
    product(31, { productName: 'Floor lamp' }),
  ]);
  const search = page.getByRole('searchbox', { name: 'Search by name or ID' });
  await search.fill('LAMP');
  await count(page, /^2 of 3$/);
  assert.deepEqual(await seen(page), [1, 31]);
  await server.add(product(4, { productName: 'Lampshade' }));
  await row(page, 4).waitFor();
  await server.patch(31, { productName: 'Carpet' });
  await row(page, 31).waitFor({ state: 'detached' });
  await search.fill('31');
  await row(page, 31).waitFor();
  await count(page, /^1 of 4$/);
  await search.fill('nothing of the kind');
  await waitForText(page.locator('#nothing'), /^No product matches this search\.$/);
  await search.press('Escape');
  await count(page, /^4$/);
  assertFaultless(page);
});

test('a click on the head of a column sorts by it, a second one the other way around', async (t) => {
  const { server, page } = await pageWith(t, [
    product(1, { pricePerUnit: '100EUR' }),
    product(2, { pricePerUnit: '20EUR' }),
    product(3, { pricePerUnit: '3EUR' }),
  ]);
  await row(page, 3).waitFor();
  const head = page.getByRole('columnheader', { name: 'Price' });
  const button = head.getByRole('button');
  await button.click();
  await page.locator('tr[data-id="3"] + tr[data-id="2"] + tr[data-id="1"]').waitFor();
  assert.deepEqual(await seen(page), [3, 2, 1]);
  assert.equal(await head.getAttribute('aria-sort'), 'ascending');
  assert.equal(await page.getByRole('columnheader', { name: 'ID' }).getAttribute('aria-sort'), null);
  await button.click();
  await page.locator('tr[data-id="1"] + tr[data-id="2"] + tr[data-id="3"]').waitFor();
  assert.equal(await head.getAttribute('aria-sort'), 'descending');

  // A row moves when its value does, on the screen and in the order of the document.
  await server.patch(3, { pricePerUnit: '50EUR' });
  await page.locator('tr[data-id="1"] + tr[data-id="3"] + tr[data-id="2"]').waitFor();
  assert.deepEqual(await seen(page), [1, 3, 2]);
  assert.equal(await row(page, 3).getAttribute('aria-rowindex'), '3');
  assertFaultless(page);
});

test('a row that takes the element of another has nothing of it', async (t) => {
  const { page, say } = await pageWithMany(t);
  const first = { productId: 1, productName: 'Old', manufacturer: 'Old', pricePerUnit: 'old', unitsAvailable: 0 };
  say('UPDATE', MANY + 1, first);
  await waitForText(cell(page, 1, 'productName'), 'Old');
  await page.locator('tr[data-id="1"] .productName.flash').waitFor();
  await row(page, 2).locator('.delete').click();
  await row(page, 2).locator('.confirming').waitFor();
  await page.evaluate(() => document.activeElement.blur());
  await row(page, 2).locator('.delete').dispatchEvent('click');
  await row(page, 2).locator('.confirming').waitFor();
  const elements = await page.evaluate(() => (window.before = new Set(document.querySelectorAll('tbody tr'))).size);
  await page.evaluate(() => scrollTo(0, 200_000));
  await page.waitForFunction(() => !document.querySelector('tr[data-id="1"]'));
  const shown = await page.locator('tbody tr').evaluateAll((rows) =>
    rows.map((each) => ({
      id: Number(each.dataset.id),
      isOfAnother: window.before.has(each),
      texts: [...each.cells].slice(0, 6).map((part) => part.textContent),
      labels: [...each.querySelectorAll('button')].map((button) => button.ariaLabel),
      marks: [...each.querySelectorAll('.flash, .up, .down, .none-left, .confirming, [title]')].length,
    })),
  );
  assert.equal(shown.filter(({ isOfAnother }) => isOfAnother).length, elements - 1, 'all but the one that asks');
  for (const { id, texts, labels, marks } of shown) {
    assert.deepEqual(texts, [id, `Thing ${id}`, 'Maker', '5EUR', id.toLocaleString('en-US'), id].map(String));
    assert.deepEqual(labels, [`Edit Thing ${id}`, `Delete Thing ${id}`]);
    assert.equal(marks, 0);
  }
  assertFaultless(page);
});

test('the row that has the focus keeps it while it moves, out of view too', async (t) => {
  const { server, page } = await pageWith(t, Array.from({ length: 300 }, (_, i) => product(i + 1)));
  await page.getByRole('columnheader', { name: 'Units' }).getByRole('button').click();
  const edit = row(page, 3).locator('.edit');
  await edit.focus();
  const focused = page.locator('tr[data-id="3"] .edit:focus');
  for (const units of [1, 5, 0]) {
    await server.patch(3, { unitsAvailable: units });
    await waitForText(cell(page, 3, 'unitsAvailable'), new RegExp(`^${units}$`));
    await focused.waitFor();
    const ids = await seen(page);
    assert.deepEqual(await inDocument(page), ids);
    assert.equal(ids.indexOf(3), { 1: 1, 5: 3, 0: 0 }[units]);
  }
  await server.patch(3, { unitsAvailable: 1000 });
  await page.waitForFunction(() => document.querySelector('tr[data-id="3"]').ariaRowIndex === '301');
  await focused.waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Edit product 3' }).waitFor();
  assertFaultless(page);
});

test('the arrow keys go from row to row, beyond what is drawn', async (t) => {
  const { page } = await pageWith(t, Array.from({ length: 200 }, (_, i) => product(i + 1)));
  await row(page, 1).locator('.delete').focus();
  for (let i = 0; i < 120; i += 1) await page.keyboard.press('ArrowDown');
  await page.locator('tr[data-id="121"] .delete:focus').waitFor();
  const { y, height } = await row(page, 121).boundingBox();
  assert.ok(y >= 90 && y + height <= 800, `the row is at ${y}`);
  await page.keyboard.press('ArrowUp');
  await page.locator('tr[data-id="120"] .delete:focus').waitFor();
  const above = await row(page, 120).boundingBox();
  assert.ok(above.y >= 90, 'it is not behind the head of the table');
  assertFaultless(page);
});

test('the focus of a row that goes passes to the one in its place', async (t) => {
  const { server, page } = await pageWith(t, [product(1), product(2), product(3)]);
  await row(page, 2).locator('.edit').focus();
  await server.send('DELETE', '/products/2');
  await page.locator('tr[data-id="3"] .edit:focus').waitFor();
  await page.getByRole('searchbox').fill('thing');
  await row(page, 3).locator('.edit').focus();
  await server.send('DELETE', '/products/3');
  await page.locator('tr[data-id="1"] .edit:focus').waitFor();
  await server.send('DELETE', '/products/1');
  await page.locator('#add:focus').waitFor();
  assertFaultless(page);
});

test('a text that is too long for its column is cut, and shown whole by the mouse', async (t) => {
  const productName = 'A name that is far longer than any column of any table '.repeat(6).trim();
  const { page } = await pageWith(t, [product(1, { productName })]);
  const name = cell(page, 1, 'productName');
  await name.hover();
  assert.equal(await name.getAttribute('title'), productName);
  await cell(page, 1, 'manufacturer').hover();
  assert.equal(await cell(page, 1, 'manufacturer').getAttribute('title'), '');
  const { height } = await row(page, 1).boundingBox();
  assert.equal(height, 41);
});
