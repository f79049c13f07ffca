// The JavaScript client in a page of another origin: that of the guide.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { Server, startBrowser, waitForText } from './support.mjs';

const GUIDE = new URL('../../docs/clients.md', import.meta.url);
const PACKAGE = new URL('../../clients/js/', import.meta.url);

// The page that the guide shows, of a server.
function guidePage({ url }) {
  const [, page] = /```html\n(.*?)```/s.exec(readFileSync(GUIDE, 'utf8'));
  return page.replaceAll('http://127.0.0.1:8080', url);
}

async function site(t) {
  const site = { page: '' };
  const listener = createServer(({ url }, response) => {
    const [, module] = /^\/node_modules\/rowcast-client\/(\w+\.js)$/.exec(url) ?? [];
    response.setHeader('content-type', module ? 'text/javascript' : 'text/html');
    response.end(module ? readFileSync(new URL(module, PACKAGE)) : site.page);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.after(() => listener.close());
  return Object.assign(site, { url: `http://127.0.0.1:${listener.address().port}` });
}

test("the guide's page follows a table, and comes back with its server", async (t) => {
  const browser = await startBrowser(t);
  const its = await site(t);
  const server = await Server.start(t, { options: ['--allowed-origin', its.url] });
  its.page = guidePage(server);
  await server.send('PUT', '/tables/orders/17', { state: 'placed' });
  const page = await browser.newPage();
  await page.goto(its.url);
  await waitForText(page.locator('li'), /^17: placed$/);
  await waitForText(page.locator('#state'), /^live$/);
  await server.stop('SIGKILL');
  await waitForText(page.locator('#state'), /^stale$/);
  await server.start();
  await server.send('PUT', '/tables/orders/18', { state: 'paid' });
  await waitForText(page.locator('li').last(), /^18: paid$/);
  await server.send('DELETE', '/tables/orders/17');
  await page.getByText('17: placed').waitFor({ state: 'detached' });
  await waitForText(page.locator('#state'), /^live$/);
});
