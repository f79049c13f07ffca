// Chromium over TLS: it speaks HTTP/2, opens its WebSockets on streams of that connection (RFC 8441), and follows early
// hints.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertFaultless, cell, makeCertificate, openPage, Server, startBrowser, waitForText } from './support.mjs';

test('the page, its requests and its WebSocket share one HTTP/2 connection', async (t) => {
  const certificate = await makeCertificate(t);
  const server = await Server.start(t, { options: certificate.options });
  const browser = await startBrowser(t, certificate.chromium);
  const page = await openPage(t, browser, server);
  await page.evaluate(async () => {
    const product = { productId: 1, productName: 'Kettle', manufacturer: 'a', pricePerUnit: '1EUR', unitsAvailable: 17 };
    const headers = { 'content-type': 'application/json' };
    await fetch('/products', { method: 'POST', headers, body: JSON.stringify(product) });
  });
  await waitForText(cell(page, 1, 'unitsAvailable'), /^17$/);

  const { protocols, metrics } = await page.evaluate(async () => {
    const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
    return {
      protocols: entries.map((entry) => entry.nextHopProtocol),
      metrics: await (await fetch('/metrics')).text(),
    };
  });
  assert.deepEqual([...new Set(protocols)], ['h2']);
  assert.match(metrics, /^rowcast_http_responses_total\{route="\/websocket",method="CONNECT",status="200"\} 1$/m);
  assert.match(metrics, /^rowcast_http2_connections 1$/m);
  assertFaultless(page);
});

test('what the early hints name is fetched by them, and only once', async (t) => {
  const certificate = await makeCertificate(t);
  const server = await Server.start(t, { options: certificate.options });
  const browser = await startBrowser(t, certificate.chromium);
  // The page comes right behind its hints, and a busy browser may have read it before it followed them.
  for (let attempt = 1; ; attempt += 1) {
    const page = await openPage(t, browser, server);
    const { hint, early } = await page.evaluate(() => {
      const hinted = performance.getEntriesByType('resource').filter((entry) => entry.initiatorType === 'early-hints');
      return {
        hint: performance.getEntriesByType('navigation')[0].firstInterimResponseStart,
        early: hinted.map((entry) => [new URL(entry.name).pathname, entry.transferSize]).sort(),
      };
    });
    assert.ok(hint > 0, 'a hint came before the page');
    assertFaultless(page);
    if (early.length === 0 && attempt < 10) continue;
    // A size of 0: for the page itself they came out of the browser's cache.
    assert.deepEqual(early, [['/assets/app.js', 0], ['/assets/style.css', 0]]);
    break;
  }
});
