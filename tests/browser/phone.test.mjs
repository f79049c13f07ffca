// The width of a phone: nothing sticks out, and the form can be used.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertFaultless, cell, openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const LONG = {
  productId: 9007199254740000,
  productName: 'A_name_without_a_single_space_that_is_much_longer_than_the_screen_of_any_phone_is_wide',
  manufacturer: 'The Company Whose Name Was Chosen by a Committee of Everybody & Sons',
  pricePerUnit: '1234567890.99EUR',
  unitsAvailable: 1234567890123,
};
const CHAIR_BY_LABEL = { ID: '2', 'Product name': 'Chair', Manufacturer: 'Sede', Price: '5EUR', Units: '3' };
const LAMP = { productId: 1, productName: 'Lamp', manufacturer: 'Lumen', pricePerUnit: '74EUR', unitsAvailable: 5 };

let browser;
const cleanups = [];
before(async () => {
  browser = await startBrowser({ after: (run) => cleanups.push(run) });
});
after(() => Promise.all(cleanups.map((run) => run())));

for (const [width, height] of [[390, 844], [360, 640]]) {
  test(`at ${width} × ${height} nothing sticks out, and a product is added`, async (t) => {
    const server = await Server.start(t);
    await server.add(LAMP);
    await server.add(LONG);
    const options = { viewport: { width, height }, hasTouch: true, isMobile: true };
    const page = await openPage(t, browser, server, { options });
    await row(page, LONG.productId).waitFor();
    await assertFits(page);

    await page.getByRole('button', { name: 'Add product' }).tap();
    await page.getByLabel('Product name').waitFor();
    await assertFits(page);
    for (const [label, text] of Object.entries(CHAIR_BY_LABEL)) {
      await page.getByLabel(label, { exact: true }).fill(text);
    }
    await page.locator('#editor-save').tap();
    await waitForText(cell(page, 2, 'unitsAvailable'), /^3$/);
    await row(page, 2).locator('.delete').tap();
    // A second tap this soon would be a double tap, which confirms nothing.
    await row(page, 2).locator('.delete.confirming').press('Enter');
    await row(page, 2).waitFor({ state: 'detached' });
    await assertFits(page);
    assertFaultless(page);
  });
}

test('an empty table fits too', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, browser, server, { options: { viewport: { width: 360, height: 640 } } });
  await page.locator('#empty').waitFor();
  await assertFits(page);
});

async function assertFits(page) {
  const { scrollWidth, clientWidth } = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    return { scrollWidth, clientWidth };
  });
  assert.ok(scrollWidth <= clientWidth, `${scrollWidth} px of content in ${clientWidth} px`);
  const outside = await page.evaluate(() =>
    [...document.querySelectorAll('button, input, td, dd')]
      .filter((element) => element.checkVisibility())
      .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth)
      .map((element) => element.outerHTML),
  );
  assert.deepEqual(outside, []);
}
