// A page of any table, named by its address: its rows come with their columns.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertFaultless, live, openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const MANY = 10_000;
const DRAWN_MAX = 80;
const LATER_MS = 31_000;
const ORDER = { state: 'new', units: 3, to: { city: 'Oslo' } };

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

function put(server, key, fields) {
  return server.send('PUT', `/tables/orders?key=${encodeURIComponent(key)}`, fields);
}

function patch(server, key, fields) {
  return server.send('PATCH', `/tables/orders?key=${encodeURIComponent(key)}`, fields);
}

function open(t, server, options = {}) {
  return openPage(t, browser, server, { path: '/?table=orders', ...options });
}

function field(page, key, name) {
  return row(page, key).locator(`td[data-name="${name}"]`);
}

function heads(page) {
  return page.locator('thead th').allInnerTexts();
}

async function waitForHeads(page, wanted) {
  await page.waitForFunction(
    (names) => [...document.querySelectorAll('thead th')].map((head) => head.textContent).join() === names,
    wanted.join(),
  );
}

// Runs in the page: the cells of a row are in one line, under the heads of their columns.
function isOneLine(key) {
  const boxes = (cells) => [...cells].map((cell) => cell.getBoundingClientRect());
  const row = document.querySelector(`tr[data-id="${key}"]`);
  const { top, height } = row.getBoundingClientRect();
  const heads = boxes(document.querySelectorAll('thead th'));
  return boxes(row.cells).every((box, place) => {
    const isUnderHead = Math.abs(box.left - heads[place].left) < 1 && Math.abs(box.width - heads[place].width) < 1;
    return isUnderHead && Math.abs(box.top - top) < 1 && Math.abs(box.height - height) <= 1;
  });
}

// A page whose test can say what the server does not, as text, and change what it says.
async function listening(t, server, { options, alter = (text) => text } = {}) {
  let say;
  const prepare = (page) =>
    page.routeWebSocket(/\/websocket$/, (socket) => {
      const remote = socket.connectToServer();
      remote.onMessage((text) => socket.send(alter(text)));
      say = (text) => socket.send(text);
    });
  const page = await open(t, server, { prepare, options });
  return { page, say };
}

test('a table is shown with the columns of its rows, and follows them', async (t) => {
  const server = await Server.start(t);
  await put(server, 17, ORDER);
  await put(server, 'a-9', { state: 'paid', units: null });
  const page = await open(t, server);
  assert.equal(await page.title(), 'orders · Rowcast');
  await page.getByRole('table', { name: 'orders' }).waitFor();
  await waitForText(page.locator('#count'), /^2$/);
  await waitForHeads(page, ['Key', 'state', 'units', 'to', 'Version']);
  await waitForText(field(page, 17, 'to'), /^\{"city":"Oslo"\}$/);
  await waitForText(field(page, 'a-9', 'units'), /^null$/);
  await waitForText(field(page, 'a-9', 'to'), /^—$/);
  await page.waitForFunction(isOneLine, 17);
  assert.equal(await page.locator('tbody button').count(), 0);
  assert.equal(await page.getByRole('button', { name: 'Add product' }).count(), 0);

  await patch(server, 17, { units: 5 });
  await waitForText(field(page, 17, 'units'), /5$/);
  await row(page, 17).locator('td[data-name="units"].flash.up').waitFor();
  // Columns come and go with the rows that have them.
  await put(server, 18, { note: 'x', state: 'sent' });
  await waitForHeads(page, ['Key', 'state', 'units', 'to', 'note', 'Version']);
  await patch(server, 17, { to: null });
  await waitForHeads(page, ['Key', 'state', 'units', 'note', 'Version']);
  await server.send('DELETE', '/tables/orders/17');
  await row(page, 17).waitFor({ state: 'detached' });
  await waitForText(page.locator('#count'), /^2$/);
  assertFaultless(page);
});

test('rows are found and sorted by any column', async (t) => {
  const server = await Server.start(t);
  await put(server, 1, { state: 'b', price: 10 });
  await put(server, 2, { state: 'a', price: 9.5 });
  await put(server, 3, { state: 'c' });
  const page = await open(t, server);
  await row(page, 3).waitFor();
  const head = page.getByRole('columnheader', { name: 'price' });
  await head.getByRole('button').click();
  await page.locator('tr[data-id="2"] + tr[data-id="1"] + tr[data-id="3"]').waitFor();
  await head.getByRole('button').click();
  await page.locator('tr[data-id="1"] + tr[data-id="2"] + tr[data-id="3"]').waitFor();
  assert.equal(await head.getAttribute('aria-sort'), 'descending');
  // The order is kept when a column comes, and is that of the keys when its own goes.
  await put(server, 4, { price: 9.7, note: 1 });
  await waitForHeads(page, ['Key', 'state', 'price', 'note', 'Version']);
  await page.locator('tr[data-id="1"] + tr[data-id="4"] + tr[data-id="2"] + tr[data-id="3"]').waitFor();
  assert.equal(await head.getAttribute('aria-sort'), 'descending');
  for (const key of [1, 2, 4]) await put(server, key, { state: 'z' });
  await page.locator('tr[data-id="1"] + tr[data-id="2"] + tr[data-id="3"] + tr[data-id="4"]').waitFor();
  assert.equal(await page.getByRole('columnheader', { name: 'Key' }).getAttribute('aria-sort'), 'ascending');

  await page.getByRole('searchbox', { name: 'Search all columns' }).fill('Z 4');
  await waitForText(page.locator('#count'), /^1 of 4$/);
  await row(page, 4).waitFor();
  await page.getByRole('searchbox').fill('nowhere');
  await waitForText(page.locator('#nothing'), /^No row matches this search\.$/);
  assertFaultless(page);
});

test('a table that does not exist is said, and shown as soon as it does', async (t) => {
  const server = await Server.start(t);
  const refused = (page) => page.locator('#state[data-state="refused"]').waitFor();
  const prepare = (page) => page.clock.install();
  const page = await open(t, server, { ready: refused, prepare });
  await waitForText(page.getByRole('alert'), /^There is no table “orders” on this server\./);
  assert.equal(await page.locator('#loading').isVisible(), false);
  await put(server, 17, ORDER);
  await page.clock.fastForward(LATER_MS);
  await live(page);
  await row(page, 17).waitFor();
  assert.equal(await page.locator('#notice').isVisible(), false);
  assertFaultless(page);

  const nameless = await openPage(t, browser, server, { path: '/?table=', ready: refused });
  await waitForText(nameless.getByRole('alert'), /^No table is named/);
});

test('an empty table says so', async (t) => {
  const server = await Server.start(t);
  await put(server, 17, ORDER);
  await server.send('DELETE', '/tables/orders/17');
  const page = await open(t, server);
  await page.getByRole('heading', { name: 'No rows yet' }).waitFor();
  assert.equal(await page.locator('#empty-writer').isVisible(), false);
  await put(server, 18, ORDER);
  await row(page, 18).waitFor();
  assertFaultless(page);
});

test('numbers are shown as they are written', async (t) => {
  const server = await Server.start(t);
  await put(server, 1, { a: 1 });
  const { page, say } = await listening(t, server);
  say('{"action":"INSERT","version":9,"table":"orders","key":2,"row":{"big":9007199254740993,"price":1.50,"in":[2.0]}}');
  await waitForText(field(page, 2, 'big'), /^9007199254740993$/);
  await waitForText(field(page, 2, 'price'), /^1\.50$/);
  await waitForText(field(page, 2, 'in'), /^\[2\.0\]$/);
  assertFaultless(page);
});

test('a row of which only the key came is read, whatever its key', async (t) => {
  const server = await Server.start(t);
  await put(server, '..', { a: 'read' });
  await put(server, 'a,b/c', { a: 'read too' });
  const alter = (text) => text.replace(/,"row":\{.*\}\}$/, '}');
  const { page } = await listening(t, server, { alter });
  await waitForText(page.locator('td[data-name="a"]').first(), /^read$/);
  await waitForText(page.locator('td[data-name="a"]').last(), /^read too$/);
  assertFaultless(page);
});

test('of ten thousand rows those in view are drawn, and their elements keep nothing of others', async (t) => {
  const server = await Server.start(t);
  await put(server, 1, { name: 'Row 1', even: false });
  const { page, say } = await listening(t, server);
  for (let key = 2; key <= MANY; key += 1) {
    const fields = key % 2 === 0 ? { name: `Row ${key}`, even: true } : { name: `Row ${key}` };
    say(JSON.stringify({ action: 'SNAPSHOT', version: key, table: 'orders', key, row: fields }));
  }
  await waitForText(page.locator('#count'), /^10,000$/);
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await row(page, MANY).waitFor();
  await row(page, 1).waitFor({ state: 'detached' });
  assert.ok((await page.locator('tbody tr').count()) <= DRAWN_MAX);
  const shown = await page.locator('tbody tr').evaluateAll((rows) =>
    rows.map((each) => [each.dataset.id, ...[...each.cells].map((cell) => cell.textContent)]),
  );
  for (const [key, ...texts] of shown) {
    assert.deepEqual(texts, [key, `Row ${key}`, key % 2 === 0 ? 'true' : '—', key]);
  }
  assertFaultless(page);
});

test('columns without room are counted and named', async (t) => {
  const server = await Server.start(t);
  await put(server, 'x', Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`column_${i}`, i])));
  const page = await open(t, server);
  await waitForText(page.locator('#columns-left'), /^30 more columns$/);
  assert.match(await page.locator('#columns-left').getAttribute('title'), /^column_10, .*, column_39$/);
  await page.setViewportSize({ width: 900, height: 800 });
  await waitForText(page.locator('#columns-left'), /^34 more columns$/);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  assert.equal(wide, false);
  assertFaultless(page);
});

for (const [width, height] of [[390, 844], [320, 568]]) {
  test(`at ${width} × ${height} a row is a card on which nothing sticks out`, async (t) => {
    const server = await Server.start(t);
    const fields = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`a_long_name_of_a_column_${i}`, 'value '.repeat(9 * i)]));
    await put(server, 'a_key_without_a_single_space_that_is_much_longer_than_the_screen_of_any_phone', fields);
    await put(server, 2, { state: 'paid', units: 3 });
    const options = { viewport: { width, height }, hasTouch: true, isMobile: true };
    const page = await open(t, server, { options });
    await row(page, 2).waitFor();
    await waitForText(field(page, 2, 'state'), /^paid$/);
    const faults = await page.evaluate(() => {
      const faults = [];
      const { scrollWidth, clientWidth } = document.documentElement;
      if (scrollWidth > clientWidth) faults.push(`${scrollWidth} px of content in ${clientWidth} px`);
      for (const cell of document.querySelectorAll('tbody td')) {
        const [outer, box] = [cell.parentElement.getBoundingClientRect(), cell.getBoundingClientRect()];
        if (cell.checkVisibility() && (box.right > outer.right || box.left < outer.left)) faults.push(cell.outerHTML);
      }
      const [key, state] = ['.key', '[data-name="state"]'].map((cell) => document.querySelector(`tr[data-id="2"] ${cell}`));
      if (key.getBoundingClientRect().bottom > state.getBoundingClientRect().top) faults.push('the state covers the key');
      return faults;
    });
    assert.deepEqual(faults, []);
    await page.getByLabel('Sort by').selectOption('units');
    await page.locator('tr[data-id="2"] + tr').waitFor();
    assertFaultless(page);
  });
}
