// Measures how smoothly the live page draws while products change: frames per second, the longest time between two, and
// the processor time of the page's thread. `node fps.mjs [products [seconds]]`. The changes are made in the page, as if
// its socket had them, so that neither a server nor a writer takes a processor from it.

import { openPage, row, Server, startBrowser, waitForText } from './support.mjs';

const [products = 10_000, seconds = 10] = process.argv.slice(2).map(Number);
const IN_VIEW = 12;

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
  const browser = await startBrowser(t);
  const page = await openPage(t, browser, server, { prepare: (page) => page.addInitScript(keepSocket) });
  await page.evaluate(fill, products);
  await row(page, 1).waitFor();
  await waitForText(page.locator('#count'), products.toLocaleString('en-US'));
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
  for (const { name, rate, over, sort = 'ID', clicks = 0 } of CASES) {
    const head = page.getByRole('columnheader', { name: sort }).getByRole('button');
    for (let i = 0; i < clicks; i += 1) await head.click();
    await page.evaluate(startChanges, { rate, over });
    await page.waitForTimeout(1000);
    const before = await busySeconds(devtools);
    const frames = await page.evaluate(watchFrames, seconds);
    console.log(line(name, { ...frames, busy: (await busySeconds(devtools)) - before }));
    await page.evaluate(() => clearInterval(window.changing));
  }
}

// The processor time that the page's thread has taken.
async function busySeconds(devtools) {
  const { metrics } = await devtools.send('Performance.getMetrics');
  return metrics.find(({ name }) => name === 'TaskDuration').value;
}

function line(name, { count, longestMs, lateFrames, changes, busy }) {
  const figures = [
    `${(count / seconds).toFixed(1)} frames/s`,
    `longest ${longestMs.toFixed(0)} ms`,
    `${lateFrames} above 50 ms`,
    `${Math.round(changes / seconds)} changes/s`,
    `${Math.round((busy / seconds) * 100)} % of a processor`,
  ];
  return `${name.padEnd(32)} ${figures.join(', ')}`;
}

// The functions below run in the page.

function keepSocket() {
  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      window.socket = this;
    }
  };
}

function fill(products) {
  window.version = 0;
  window.tell = (action, productId, unitsAvailable) => {
    const rest = { manufacturer: 'Maker', pricePerUnit: '5EUR', unitsAvailable };
    const product = { productId, productName: `Thing ${productId}`, ...rest };
    window.socket.onmessage({ data: JSON.stringify({ action, version: (window.version += 1), product }) });
  };
  for (let id = 1; id <= products; id += 1) window.tell('SNAPSHOT', id, id % 100);
}

function startChanges({ rate, over }) {
  const begin = performance.now();
  let told = 0;
  window.changing = setInterval(() => {
    for (; told < ((performance.now() - begin) / 1000) * rate; told += 1) {
      window.tell('UPDATE', 1 + Math.floor(Math.random() * over), Math.floor(Math.random() * 1000));
    }
  }, 5);
}

function watchFrames(seconds) {
  return new Promise((resolve) => {
    const before = window.version;
    const begin = performance.now();
    const seen = { count: 0, longestMs: 0, lateFrames: 0 };
    let last = begin;
    const frame = (now) => {
      seen.count += 1;
      seen.longestMs = Math.max(seen.longestMs, now - last);
      if (now - last > 50) seen.lateFrames += 1;
      last = now;
      if (now - begin < seconds * 1000) requestAnimationFrame(frame);
      else resolve({ ...seen, changes: window.version - before });
    };
    requestAnimationFrame(frame);
  });
}
