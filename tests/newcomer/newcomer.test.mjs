// What a newcomer does in an afternoon, by the documents alone: the package on a bare system, a Postgres with a table, a key and
// a token, a page of twenty lines; then everything is killed and started again, and the page shows what is true. As root.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, chmod, chown, copyFile, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createListener } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startBrowser, temporaryDirectory, waitForText } from '../browser/support.mjs';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SHOWN_SERVER = 'http://127.0.0.1:8080';

async function freePort() {
  const listener = createListener().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

// A block of code of a document that holds this text.
async function shown(document, language, text) {
  const blocks = (await readFile(join(ROOT, document), 'utf8')).matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'));
  const found = [...blocks].map(([, block]) => block).find((block) => block.includes(text));
  assert.ok(found, `${document} shows nothing with ${text}`);
  return found;
}

// A Postgres of its own, which can be killed and started again.
class Postgres {
  #runs = false;

  async make(home) {
    const port = await freePort();
    this.url = `postgres://shop@127.0.0.1:${port}/shop?sslmode=disable`;
    this.home = home;
    this.options = `-c listen_addresses=127.0.0.1 -c port=${port} -c unix_socket_directories=${home}`;
    this.environment = { ...process.env, PGHOST: '127.0.0.1', PGPORT: String(port), PGUSER: 'shop' };
    execFileSync('chown', ['nobody', home]);
    this.run('initdb', ['-U', 'shop', '--auth', 'trust', '-E', 'UTF8', '--locale', 'C']);
    this.start();
    this.run('psql', ['-qXc', 'CREATE DATABASE shop', 'postgres'], false);
  }

  run(program, args, hasData = true) {
    const directory = process.env.ROWCAST_PG_BIN ?? execFileSync('sh', ['-c', 'ls -d /usr/lib/postgresql/*/bin | tail -1'], { encoding: 'utf8' }).trim();
    const data = hasData ? ['-D', join(this.home, 'data')] : [];
    const command = ['--reuid', 'nobody', '--clear-groups', join(directory, program), ...data, ...args];
    return execFileSync('setpriv', command, { env: this.environment, stdio: 'pipe', cwd: '/' });
  }

  start() {
    this.#runs = true;
    this.run('pg_ctl', ['-w', '-l', join(this.home, 'log'), '-o', this.options, 'start']);
  }

  kill() {
    if (this.#runs) this.run('pg_ctl', ['-m', 'immediate', 'stop']);
    this.#runs = false;
  }

  sql(statement) {
    this.run('psql', ['-qX', '-v', 'ON_ERROR_STOP=1', '-c', statement, 'shop'], false);
  }
}

// The service of the system that has the package.
class Service {
  #child;

  async start(system, url) {
    this.#child = spawn(join(ROOT, 'tests/package/service.sh'), [system], { stdio: ['ignore', 'ignore', 'pipe'] });
    const log = [];
    this.#child.stderr.on('data', (text) => log.push(text));
    const ready = () => fetch(`${url}/readyz`).then(({ ok }) => ok, () => false);
    while (!(await ready())) {
      assert.equal(this.#child.exitCode, null, log.join(''));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async kill() {
    if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}

// Serves the page, and the token at /token.
async function site(t, its) {
  const listener = createServer(({ url }, response) => {
    response.setHeader('content-type', url === '/token' ? 'text/plain' : 'text/html');
    response.end(url === '/token' ? its.token : its.page);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.after(() => listener.close());
  return `http://127.0.0.1:${listener.address().port}`;
}

test('from the package to a page that shows what is true whatever is killed', async (t) => {
  const begun = Date.now();
  const [postgres, service] = [new Postgres(), new Service()];
  // Before what removes their directories.
  t.after(async () => {
    await service.kill();
    postgres.kill();
  });
  const home = await temporaryDirectory(t);
  execFileSync(join(ROOT, 'tests/package/run.sh'), ['--root', home], { stdio: ['ignore', 'ignore', 'inherit'] });
  const system = join(home, 'root');

  await postgres.make(await temporaryDirectory(t));
  postgres.sql("CREATE TABLE orders (id bigint PRIMARY KEY, state text); INSERT INTO orders VALUES (17, 'placed')");

  // docs/tokens.md: a key, and a token made by hand.
  const key = await shown('docs/tokens.md', 'sh', 'openssl rand');
  execFileSync('bash', ['-ec', key.split('\n')[0]], { cwd: home });
  const claims = '"rowcast":{"tables":{"orders":{"read":"*"}}}';
  const byHand = (await shown('docs/tokens.md', 'sh', 'b64url()')).replace('"rowcast":{"read":"*","write":true}', claims);
  assert.ok(byHand.includes(claims));
  const token = execFileSync('bash', ['-ec', byHand], { cwd: home, encoding: 'utf8' }).trim();
  await copyFile(join(home, 'key'), join(system, 'etc/rowcast/key'));
  await chmod(join(system, 'etc/rowcast/key'), 0o640);
  const [, group] = /^rowcast:[^:]*:(\d+):/m.exec(await readFile(join(system, 'etc/group'), 'utf8'));
  await chown(join(system, 'etc/rowcast/key'), 0, Number(group));

  // docs/clients.md: the page, with a token.
  const its = { token };
  const origin = await site(t, its);
  const url = `http://127.0.0.1:${await freePort()}`;
  const [, withToken] = /connect\(url, (\{.*\})\)/.exec(await shown('docs/clients.md', 'js', "fetch('/token')"));
  its.page = (await shown('docs/clients.md', 'html', 'connect('))
    .replace(`connect('${SHOWN_SERVER}')`, `connect('${SHOWN_SERVER}', ${withToken})`)
    .replaceAll(SHOWN_SERVER, url);

  // docs/production.md: the settings.
  const settings = {
    ROWCAST_DATABASE_URL: postgres.url,
    ROWCAST_TABLES: 'orders',
    ROWCAST_LISTEN: new URL(url).host,
    ROWCAST_JWT_KEY: '/etc/rowcast/key',
    ROWCAST_ALLOWED_ORIGIN: origin,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
  await appendFile(join(system, 'etc/default/rowcast'), lines.join(''));

  await service.start(system, url);
  const browser = await startBrowser(t);
  const page = await browser.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.stack));
  await page.goto(origin);
  await waitForText(page.locator('li'), /^17: placed$/);
  await waitForText(page.locator('#state'), /^live$/);

  postgres.sql("UPDATE orders SET state = 'paid'");
  await waitForText(page.locator('li'), /^17: paid$/);

  await service.kill();
  await waitForText(page.locator('#state'), /^stale$/);
  postgres.sql("UPDATE orders SET state = 'packed'; INSERT INTO orders VALUES (18, 'placed')");
  await service.start(system, url);
  await waitForText(page.locator('li').first(), /^17: packed$/);
  await waitForText(page.locator('li').last(), /^18: placed$/);
  await waitForText(page.locator('#state'), /^live$/);

  postgres.kill();
  await waitForText(page.locator('#state'), /^stale$/);
  postgres.start();
  postgres.sql("UPDATE orders SET state = 'sent' WHERE id = 17; DELETE FROM orders WHERE id = 18");
  await waitForText(page.locator('li'), /^17: sent$/);
  await waitForText(page.locator('#state'), /^live$/);
  assert.equal(await page.locator('li').count(), 1);
  assert.deepEqual(faults, []);
  t.diagnostic(`from the package to the last change: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
});
