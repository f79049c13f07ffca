// The width of a phone: nothing sticks out, and the form can be used.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertFaultless, cell, openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const LONG = {
  productId: 9007199254740000,
  productName: 'A_name_without_a_single_space_that_is_much_longer_than_the_screen_of_any_phone_is_wide',
  manufacturer: 'The Company Whose Name Was Chosen by a Committee of Everybody & Sons',
  pricePerUnit: '1234567890123456789.99EUR, or less for whoever asks at the right moment',
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

for (const [width, height] of [[390, 844], [360, 640], [320, 568]]) {
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
  const page = await openPage(t, browser, server, { options: { viewport: { width: 320, height: 568 } } });
  await page.locator('#empty').waitFor();
  await assertFits(page);
});

test('at the width of a phone a list sorts', async (t) => {
  const server = await Server.start(t);
  await server.add(LAMP);
  await server.add(LONG);
  const page = await openPage(t, browser, server, { options: { viewport: { width: 320, height: 568 } } });
  await row(page, 1).waitFor();
  await page.getByLabel('Sort by').selectOption('Units');
  await page.getByRole('button', { name: 'Ascending, change' }).click();
  await page.locator(`tr[data-id="${LONG.productId}"] + tr[data-id="1"]`).waitFor();
  const [first, second] = await Promise.all([LONG.productId, 1].map((id) => row(page, id).boundingBox()));
  assert.ok(first.y + first.height <= second.y);
});

// No row is higher than its place, and no cell covers another.
async function assertRowsHold(page) {
  const faults = await page.evaluate(() => {
    const faults = [];
    for (const row of document.querySelectorAll('tbody tr')) {
      const outer = row.getBoundingClientRect();
      const cells = [...row.cells].filter((cell) => cell.checkVisibility());
      const boxes = cells.map((cell) => [cell.className, cell.getBoundingClientRect()]);
      for (const [name, box] of boxes) {
        const isWithin = box.top >= outer.top && box.bottom <= outer.bottom && box.right <= outer.right;
        if (!isWithin) faults.push(`${name} leaves its row`);
        for (const [other, covered] of boxes) {
          const isBeside = box.right <= covered.left || covered.right <= box.left;
          const isAbove = box.bottom <= covered.top || covered.bottom <= box.top;
          if (name < other && !isBeside && !isAbove) faults.push(`${name} covers ${other}`);
        }
      }
      if (row.querySelector('.pricePerUnit').clientWidth < 30) faults.push('no room for the price');
    }
    return faults;
  });
  assert.deepEqual(faults, []);
}

async function assertFits(page) {
  await assertRowsHold(page);
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
