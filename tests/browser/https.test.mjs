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

  const { protocols, hint, early, metrics } = await page.evaluate(async () => {
    const [navigation] = performance.getEntriesByType('navigation');
    const resources = performance.getEntriesByType('resource');
    return {
      protocols: [navigation, ...resources].map((entry) => entry.nextHopProtocol),
      hint: navigation.firstInterimResponseStart,
      early: resources.filter((entry) => entry.initiatorType === 'early-hints').map((entry) => new URL(entry.name).pathname),
      metrics: await (await fetch('/metrics')).text(),
    };
  });
  assert.deepEqual([...new Set(protocols)], ['h2']);
  assert.ok(hint > 0, 'a hint came before the page');
  assert.deepEqual(early.sort(), ['/assets/app.js', '/assets/style.css']);
  assert.match(metrics, /^rowcast_http_responses_total\{method="CONNECT",status="200"\} 1$/m);
  assert.match(metrics, /^rowcast_http2_connections 1$/m);
  assertFaultless(page);
});
