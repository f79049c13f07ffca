// The shop of examples/, as its script opens it: a Postgres of its own, Rowcast on it, customers who order, and the page.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { BINARY } from './server.mjs';
import { startBrowser, startFirefox, waitForText } from './support.mjs';

const SCRIPT = fileURLToPath(new URL('../../examples/shop/run.sh', import.meta.url));
const PAGE = new URL('../../examples/shop/index.html', import.meta.url);
const STEPS_PER_SECOND = '100';

let chromium;
let firefox;
const cleanups = [];
before(async () => {
  const t = { after: (run) => cleanups.push(run) };
  [chromium, firefox] = await Promise.all([startBrowser(t), startFirefox(t)]);
});
after(() => Promise.all(cleanups.map((run) => run())));

async function freePort() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

// Opens the shop. Returns the address of its page, and what closes it.
async function openShop(t) {
  const env = { ...process.env, ROWCAST: BINARY, ROWCAST_SHOP_PORT: String(await freePort()) };
  const shop = spawn(SCRIPT, [STEPS_PER_SECOND], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const log = [];
  shop.stderr.on('data', (text) => log.push(text));
  const exited = once(shop, 'exit');
  const close = async () => {
    shop.kill();
    await exited;
  };
  t.after(close);
  const address = await new Promise((resolve, reject) => {
    exited.then(() => reject(new Error(`the shop did not open: ${log.join('')}`)));
    createInterface({ input: shop.stdout }).on('line', (line) => {
      const [, address] = /^The shop is open: (.+)$/.exec(line) ?? [];
      if (address) resolve(address);
    });
  });
  return { address, close };
}

async function openPage(t, address, browser = chromium) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(address);
  return page;
}

for (const name of ['Chromium', 'Firefox']) {
  test(`in ${name} the shop is live while it is open, and says so when it is not`, async (t) => {
    const { address, close } = await openShop(t);
    await followShop(await openPage(t, address, name === 'Firefox' ? firefox : chromium), close);
  });
}

async function followShop(page, close) {
  await waitForText(page.locator('#state'), /^live$/);
  await page.locator('#orders tr.new').first().waitFor();
  const newest = () => page.evaluate(() => Number(document.querySelector('#orders td').textContent));
  const seen = await newest();
  await page.waitForFunction((seen) => Number(document.querySelector('#orders td').textContent) > seen, seen);
  // Each row has the texts of two other tables.
  await waitForText(page.locator('#orders tr').first(), /[A-Z]\w+ [A-Z]\w+\d × [A-Z][\w ]+, \w+€[\d,.]+placed/);
  await page.setViewportSize({ width: 320, height: 568 });
  const [content, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= room, `${content} px of content in ${room} px`);
  await close();
  await waitForText(page.locator('#state'), /^what you see may be old$/);
  await page.locator('.old-rows #orders tr').first().waitFor();
}

test('a page of a shop that is closed says where it looked', async (t) => {
  const port = await freePort();
  const page = await openPage(t, `${PAGE}?port=${port}`);
  await waitForText(page.locator('#state'), `nothing answers at http://127.0.0.1:${port}`);
});

test('the page takes its client from this machine alone', async (t) => {
  const page = await openPage(t, `${PAGE}?port=80@shop.example`);
  await waitForText(page.locator('#state'), 'nothing answers at http://127.0.0.1:NaN');
});
