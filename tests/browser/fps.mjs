// Measures how smoothly the live page draws while products change: frames per second, and the longest time between two.
// `node fps.mjs [products [seconds]]`, with ROWCAST_BIN a release build. Nothing else may run meanwhile.

import { Agent, request } from 'node:http';
import { addMany, openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const [products = 10_000, seconds = 10] = process.argv.slice(2).map(Number);
const IN_VIEW = 12;
const TURN_MS = 10;
const SEED = 7;

// The changes of a second, and the products that they are spread over; the column that is sorted by, and how.
const CASES = [
  { name: 'nothing changes', rate: 0, over: products },
  { name: '200/s over all', rate: 200, over: products },
  { name: '200/s in view', rate: 200, over: IN_VIEW },
  { name: '2,000/s over all', rate: 2000, over: products },
  { name: '2,000/s in view', rate: 2000, over: IN_VIEW },
  { name: '2,000/s over all, newest first', rate: 2000, over: products, sort: 'Version', clicks: 2 },
  { name: '2,000/s over all, by units', rate: 2000, over: products, sort: 'Units', clicks: 1 },
];

const cleanups = [];
const t = { after: (run) => cleanups.unshift(run) };
try {
  await measure();
} finally {
  for (const cleanup of cleanups) await cleanup();
}

async function measure() {
  const server = await Server.start(t);
  await addMany(server, Array.from({ length: products }, (_, i) => product(i + 1)));
  const browser = await startBrowser(t);
  const page = await openPage(t, browser, server);
  await row(page, 1).waitFor();
  await waitForText(page.locator('#count'), products.toLocaleString('en-US'));
  for (const { name, rate, over, sort = 'ID', clicks = 0 } of CASES) {
    if (sort !== 'ID') await page.getByRole('columnheader', { name: 'ID' }).getByRole('button').click();
    const head = page.getByRole('columnheader', { name: sort }).getByRole('button');
    for (let i = 0; i < clicks; i += 1) await head.click();
    const writer = write(server.url, rate, over);
    await page.waitForTimeout(1000);
    const frames = await page.evaluate(watchFrames, seconds);
    const failed = await writer.stop();
    console.log(line(name, frames, failed));
  }
}

function product(productId) {
  const unitsAvailable = productId % 100;
  return { productId, productName: `Thing ${productId}`, manufacturer: 'Maker', pricePerUnit: '5EUR', unitsAvailable };
}

function line(name, { count, longestMs, lateFrames, changes }, failed) {
  const figures = [
    `${(count / seconds).toFixed(1)} frames/s`,
    `longest ${longestMs.toFixed(0)} ms`,
    `${lateFrames} above 50 ms`,
    `${Math.round(changes / seconds)} changes/s seen`,
    `${failed} writes failed`,
  ];
  return `${name.padEnd(32)} ${figures.join(', ')}`;
}

// Runs in the page.
function watchFrames(seconds) {
  const changes = () => Number(document.querySelector('#changes').textContent.replaceAll(',', ''));
  return new Promise((resolve) => {
    const before = changes();
    const begin = performance.now();
    const seen = { count: 0, longestMs: 0, lateFrames: 0 };
    let last = begin;
    const frame = (now) => {
      seen.count += 1;
      seen.longestMs = Math.max(seen.longestMs, now - last);
      if (now - last > 50) seen.lateFrames += 1;
      last = now;
      if (now - begin < seconds * 1000) requestAnimationFrame(frame);
      else resolve({ ...seen, changes: changes() - before });
    };
    requestAnimationFrame(frame);
  });
}

// Changes the units of products at this rate until it is stopped.
function write(url, rate, over) {
  const agent = new Agent({ keepAlive: true, maxSockets: 32 });
  const random = seededRandom();
  const begin = performance.now();
  let sent = 0;
  let failed = 0;
  const timer = setInterval(() => {
    for (; sent < ((performance.now() - begin) / 1000) * rate; sent += 1) {
      const id = 1 + Math.floor(random() * over);
      patch(`${url}/products/${id}`, { unitsAvailable: Math.floor(random() * 1000) }, agent, () => (failed += 1));
    }
  }, TURN_MS);
  return {
    stop: async () => {
      clearInterval(timer);
      agent.destroy();
      return failed;
    },
  };
}

function patch(url, fields, agent, onFailure) {
  const headers = { 'content-type': 'application/merge-patch+json' };
  const asked = request(url, { method: 'PATCH', headers, agent }, (response) => {
    if (response.statusCode !== 200) onFailure();
    response.resume();
  });
  asked.on('error', onFailure);
  asked.end(JSON.stringify(fields));
}

function seededRandom() {
  let state = SEED;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
