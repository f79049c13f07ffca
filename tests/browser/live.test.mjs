// Two pages that are open at once: what one does, the other shows.

import { after, before, test } from 'node:test';
import {
  assertFaultless, cell, openPage, row, Server, startBrowser, waitForFlash, waitForText,
} from './support.mjs';

const KETTLE = {
  productId: 3,
  productName: 'Kettle',
  manufacturer: 'Brasa',
  pricePerUnit: '89EUR',
  unitsAvailable: 17,
};

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

async function twoPages(t, ...products) {
  const server = await Server.start(t);
  for (const product of products) await server.add(product);
  const [one, other] = await Promise.all([openPage(t, browser, server), openPage(t, browser, server)]);
  return { server, one, other };
}

test('a product that one page adds appears on the other', async (t) => {
  const { one, other } = await twoPages(t, KETTLE);
  await one.click('#add');
  await one.getByLabel('Product name').fill('Desk lamp');
  await one.getByLabel('Manufacturer').fill('Lumen & Co <b>');
  await one.getByLabel('Price').fill('74.50EUR');
  await one.getByLabel('Units').fill('1200');
  await one.locator('#editor-save').click();
  await one.locator('#editor').waitFor({ state: 'hidden' });
  for (const page of [one, other]) {
    await waitForText(cell(page, 4, 'productName'), /^Desk lamp$/);
    await waitForText(cell(page, 4, 'manufacturer'), /^Lumen & Co <b>$/);
    await waitForText(cell(page, 4, 'pricePerUnit'), /^74\.50EUR$/);
    await waitForText(cell(page, 4, 'unitsAvailable'), /^1,200$/);
    assertFaultless(page);
  }
});

test('a product that one page edits changes and flashes on the other', async (t) => {
  const { one, other } = await twoPages(t, KETTLE);
  await one.getByRole('button', { name: 'Edit Kettle' }).click();
  await one.getByLabel('Units').fill('12');
  await one.getByLabel('Price').fill('79EUR');
  await one.locator('#editor-save').click();
  for (const page of [one, other]) {
    await waitForText(cell(page, 3, 'unitsAvailable'), /^12$/);
    await waitForText(cell(page, 3, 'pricePerUnit'), /^79EUR$/);
    await waitForFlash(page, 3, 'unitsAvailable');
    await waitForFlash(page, 3, 'pricePerUnit');
    await waitForText(cell(page, 3, 'productName'), /^Kettle$/);
    assertFaultless(page);
  }
});

test('a product that one page deletes, by a second click, goes from the other', async (t) => {
  const { one, other } = await twoPages(t, KETTLE);
  await one.getByRole('button', { name: 'Delete Kettle', exact: true }).click();
  await one.getByRole('button', { name: 'Confirm: Delete Kettle' }).click();
  for (const page of [one, other]) {
    await row(page, 3).waitFor({ state: 'detached' });
    await page.locator('#empty').waitFor();
    assertFaultless(page);
  }
});

test('a product that was deleted comes back when it is added again', async (t) => {
  const { server, one, other } = await twoPages(t, KETTLE);
  await server.send('DELETE', '/products/3');
  await Promise.all([one, other].map((page) => row(page, 3).waitFor({ state: 'detached' })));
  await server.add({ ...KETTLE, productName: 'Kettle II' });
  for (const page of [one, other]) await waitForText(cell(page, 3, 'productName'), /^Kettle II$/);
});

test('the samples fill an empty table, on both pages', async (t) => {
  const { one, other } = await twoPages(t);
  await one.locator('#empty').waitFor();
  await one.getByRole('button', { name: 'Add sample products' }).click();
  for (const page of [one, other]) {
    await row(page, 6).waitFor();
    await waitForText(page.locator('#count'), /^6$/);
    await page.locator('#empty').waitFor({ state: 'hidden' });
    assertFaultless(page);
  }
});

test('the meters follow the changes', async (t) => {
  const { server, one, other } = await twoPages(t, KETTLE);
  await waitForText(one.locator('#last-change'), 'none yet');
  let done = false;
  const rated = waitForText(one.locator('#rate'), /[1-9]/).finally(() => (done = true));
  let changes = 0;
  while (!done) await server.patch(3, { unitsAvailable: (changes += 1) });
  await rated;
  for (const page of [one, other]) {
    await waitForText(page.locator('#changes'), new RegExp(`^${changes.toLocaleString('en-US')}$`));
    await waitForText(page.locator('#last-change'), /just now|s ago/);
    await waitForText(page.locator('#skipped'), /^0$/);
  }
  await waitForText(one.locator('#last-change'), /^[2-9] s ago$/);
  await waitForText(one.locator('#rate'), /^0$/);
});

for (const reducedMotion of ['no-preference', 'reduce']) {
  test(`flashes end, and deleted rows leave, where motion has ${reducedMotion}`, async (t) => {
    const server = await Server.start(t);
    await server.add(KETTLE);
    const page = await openPage(t, browser, server, { options: { reducedMotion } });
    await row(page, 3).waitFor();
    await server.patch(3, { unitsAvailable: 18 });
    await waitForFlash(page, 3, 'unitsAvailable');
    await server.patch(3, { unitsAvailable: 19 });
    await waitForText(cell(page, 3, 'unitsAvailable'), /^19$/);
    await page.locator('.flash').waitFor({ state: 'detached' });
    await server.send('DELETE', '/products/3');
    await page.locator('#rows tr').waitFor({ state: 'detached' });
    assertFaultless(page);
  });
}
