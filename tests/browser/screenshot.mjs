// Writes a picture of the live page to the path given: a server of its own, a few products, and changes that run while
// the picture is taken. `node screenshot.mjs page.png [width [height [light|dark]]]`

import { resolve } from 'node:path';
import { openPage, row, Server, startBrowser } from './support.mjs';

const PRODUCTS = [
  ['MacBook Pro 14', 'Apple', '2199EUR', 34],
  ['ThinkPad X1 Carbon', 'Lenovo', '1849EUR', 58],
  ['XPS 13', 'Dell', '1499EUR', 21],
  ['Surface Laptop 7', 'Microsoft', '1299EUR', 0],
  ['Pixel 9 Pro', 'Google', '1099EUR', 240],
  ['Galaxy S25', 'Samsung', '899EUR', 312],
  ['WH-1000XM5 headphones', 'Sony', '349EUR', 176],
  ['MX Master 3S mouse', 'Logitech', '99.99EUR', 1420],
  ['UltraSharp 27 monitor', 'Dell', '579EUR', 63],
  ['Kindle Paperwhite', 'Amazon', '169.99EUR', 805],
  ['Steam Deck OLED', 'Valve', '569EUR', 47],
];

const SEED = 7;
const CHANGES_BEFORE = 260;
// The pace changes now and then, so that the rate has a shape.
const PACE_CHANGES = 24;
const PACE_MS = [40, 180];

const [path, width = '1280', height = '800', colorScheme = 'light'] = process.argv.slice(2);
if (path === undefined) {
  console.error('usage: node screenshot.mjs <file.png> [width [height [light|dark]]]');
  process.exit(64);
}

const cleanups = [];
const t = { after: (run) => cleanups.unshift(run) };
try {
  await takePicture();
} finally {
  for (const cleanup of cleanups) await cleanup();
}

async function takePicture() {
  const server = await Server.start(t);
  for (const [i, [productName, manufacturer, pricePerUnit, unitsAvailable]] of PRODUCTS.entries()) {
    await server.add({ productId: i + 1, productName, manufacturer, pricePerUnit, unitsAvailable });
  }
  const browser = await startBrowser(t);
  const options = { viewport: { width: Number(width), height: Number(height) }, colorScheme };
  const page = await openPage(t, browser, server, { options });
  await row(page, PRODUCTS.length).waitFor();
  const units = PRODUCTS.map(([, , , units]) => units);
  const random = seededRandom();
  let pauseMs;
  for (let i = 0; i < CHANGES_BEFORE; i += 1) {
    if (i % PACE_CHANGES === 0) pauseMs = PACE_MS[0] + random() * (PACE_MS[1] - PACE_MS[0]);
    const index = Math.floor(random() * units.length);
    const step = Math.ceil(random() * 6) * (random() < 0.6 ? -1 : 1);
    units[index] = Math.max(0, units[index] + step);
    await server.patch(index + 1, { unitsAvailable: units[index] });
    await page.waitForTimeout(pauseMs);
  }
  await server.patch(3, { pricePerUnit: '1449EUR' });
  await server.patch(8, { unitsAvailable: units[7] + 24 });
  await page.waitForFunction(() => document.querySelector('tr[data-id="8"] .flash.up'));
  await page.screenshot({ path: resolve(path), scale: 'css' });
}

// The same picture every time (a linear congruential generator, Numerical Recipes' constants).
function seededRandom() {
  let state = SEED;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
