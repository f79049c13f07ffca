// The JavaScript client in a page, in each browser, behind a proxy that lets no WebSocket through.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { tokenOf } from './jwt.mjs';
import { Server, startBrowser, startFirefox } from './support.mjs';
import { Way } from '../../clients/js/tests/way.mjs';

const EVERYTHING = { read: '*', write: true, tables: { orders: { read: '*', write: true }, notes: { read: '*', write: true } } };

for (const [name, start] of [['Chromium', startBrowser], ['Firefox', startFirefox]]) {
  describe(name, () => {
    let browser;
    const cleanups = [];
    before(async () => {
      browser = await start({ after: (run) => cleanups.push(run) });
    });
    after(() => Promise.all(cleanups.map((run) => run())));

    // A page of the server, reached by the way, which runs `script` with the client's `connect`.
    async function opened(t, upgrades, script, grant) {
      const server = grant ? await Server.guarded(t, grant) : await Server.start(t);
      const way = await Way.start(t, server, upgrades);
      for (const key of [1, 2]) await server.send('PUT', `/tables/orders/${key}`, { n: key });
      await server.send('PUT', '/tables/notes/a', { n: 1 });
      const page = await browser.newPage();
      t.after(() => page.close());
      await page.goto(`${way.url}/healthz`);
      await page.evaluate(async (script) => {
        const { connect } = await import('/assets/client.js');
        window.known = (table) => JSON.stringify([...window.client.rows(table)].map(({ key, row }) => [key, row.n]).sort());
        await new Function('connect', `return (async () => { ${script} })()`)(connect);
      }, script);
      const shows = (table, rows) =>
        page.waitForFunction(
          ([table, rows]) => window.client.state === 'live' && window.known(table) === rows,
          [table, JSON.stringify(rows)],
        );
      return { server, way, page, shows };
    }

    const FOLLOWING = `
      window.client = connect('/', window.options);
      window.end = client.subscribe({ table: 'orders', keys: [1, 2, 3] }, () => {});
      client.subscribe({ table: 'notes', keys: '*' }, () => {});
    `;

    for (const upgrades of ['refused', 'killed']) {
      test(`rows are followed where upgrades are ${upgrades}, whatever happens to the server`, async (t) => {
        const { server, way, page, shows } = await opened(t, upgrades, FOLLOWING);
        await shows('orders', [[1, 1], [2, 2]]);
        await shows('notes', [['a', 1]]);
        assert.equal(way.count('/events'), 2);
        await server.send('PUT', '/tables/orders/3', { n: 3 });
        await shows('orders', [[1, 1], [2, 2], [3, 3]]);
        for (const signal of ['SIGKILL', 'SIGTERM']) {
          await server.stop(signal);
          await page.waitForFunction(() => window.client.state === 'stale');
          await server.start();
          await server.send('DELETE', '/tables/orders/3');
          await server.send('PUT', '/tables/notes/b', { n: signal });
          await shows('orders', [[1, 1], [2, 2]]);
          await shows('notes', [['a', 1], ['b', signal]]);
          await server.send('PUT', '/tables/orders/3', { n: 3 });
          await shows('orders', [[1, 1], [2, 2], [3, 3]]);
        }
        await page.evaluate(() => window.end());
        await shows('orders', []);
        await page.evaluate(() => window.client.close());
        assert.equal(way.count('/websocket'), 2);
      });
    }

    test('a token that expires is renewed', async (t) => {
      const tokens = [3600, 3600, 4, 3600].map((seconds) => tokenOf(EVERYTHING, seconds));
      const script = `
        const tokens = ${JSON.stringify(tokens)};
        window.options = { token: () => (window.isRenewed = tokens.length === 1, tokens.shift()) };
        ${FOLLOWING}
      `;
      const its = await opened(t, 'refused', script, EVERYTHING);
      await its.shows('orders', [[1, 1], [2, 2]]);
      await its.page.waitForFunction(() => window.isRenewed);
      await its.server.send('PUT', '/tables/orders/1', { n: 11 });
      await its.shows('orders', [[1, 11], [2, 2]]);
    });
  });
}
