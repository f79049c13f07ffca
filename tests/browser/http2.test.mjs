// HTTP/2 with Node's client, which is not ours and accepts pushes: on plain TCP and over TLS.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { test } from 'node:test';
import { makeCertificate, Server } from './support.mjs';

const LINK = '<assets/style.css>; rel=preload; as=style, <assets/app.js>; rel=preload; as=script; crossorigin';

const OVER = {
  'plain TCP': async (t) => ({ server: await Server.start(t) }),
  TLS: async (t) => {
    const certificate = await makeCertificate(t);
    return { server: await Server.start(t, { options: certificate.options }), ca: certificate.pem };
  },
};

// The same test over TCP and over TLS. `open` makes a connection to the server.
function testOver(name, run) {
  for (const [carrier, start] of Object.entries(OVER)) {
    test(`${name}, over ${carrier}`, async (t) => {
      const { server, ca } = await start(t);
      const open = async (settings = {}) => {
        const session = connect(server.url, { ca, settings });
        t.after(() => session.destroy());
        await once(session, 'remoteSettings');
        return session;
      };
      await run({ open, isSecure: ca !== undefined });
    });
  }
}

async function text(stream) {
  stream.setEncoding('utf8');
  let whole = '';
  for await (const part of stream) whole += part;
  return whole;
}

// An answer, the hints before it, and what was pushed with it.
async function request(session, headers, body) {
  const pushed = [];
  const onStream = (stream, asked) => {
    const answered = once(stream, 'push').then(async ([head]) => ({ path: asked[':path'], head, text: await text(stream) }));
    pushed.push(answered);
  };
  session.on('stream', onStream);
  const stream = session.request(headers);
  const hints = [];
  stream.on('headers', (head) => hints.push(head));
  stream.end(body);
  const [head] = await once(stream, 'response');
  const whole = await text(stream);
  session.off('stream', onStream);
  return { head, text: whole, hints, pushed: await Promise.all(pushed) };
}

const get = (session, path, headers = {}) => request(session, { ':path': path, ...headers });

testOver('what the page needs is pushed once', async ({ open, isSecure }) => {
  const session = await open({ enablePush: true });
  const first = await get(session, '/');
  assert.equal(first.head[':status'], 200);
  const secure = isSecure ? '; Secure' : '';
  assert.deepEqual(first.head['set-cookie'], [
    `assetspushed=1; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax${secure}`,
  ]);
  assert.deepEqual(first.pushed.map(({ path }) => path).sort(), ['/assets/app.js', '/assets/style.css']);
  for (const { path, head, text } of first.pushed) {
    assert.equal(head[':status'], 200);
    assert.equal(head['cache-control'], 'max-age=3600');
    assert.equal(text, (await get(session, path)).text);
  }
  const again = await get(session, '/', { cookie: 'assetspushed=1' });
  assert.equal(again.head[':status'], 200);
  assert.equal(again.head['set-cookie'], undefined);
  assert.deepEqual([again.pushed, again.hints], [[], []]);
});

testOver('a client that refuses pushes has early hints', async ({ open }) => {
  const session = await open({ enablePush: false });
  const page = await get(session, '/');
  assert.equal(page.head['set-cookie'], undefined);
  assert.deepEqual(page.pushed, []);
  assert.deepEqual(page.hints.map((hint) => [hint[':status'], hint.link]), [[103, LINK]]);
});

testOver('websockets and requests share a connection', async ({ open }) => {
  const session = await open();
  assert.equal(session.remoteSettings.enableConnectProtocol, true);
  const sockets = await Promise.all([1, 2, 3].map(() => openSocket(session)));
  for (const socket of sockets) {
    socket.send({ command: 'subscribe', productIDs: [7], id: 1 });
    assert.deepEqual(await socket.next(), { reply: 1, ok: true, subscribed: 1 });
  }
  const product = { manufacturer: 'Brasa', pricePerUnit: '89EUR', unitsAvailable: 17, productName: 'Kettle' };
  const put = { ':method': 'PUT', ':path': '/products/7', 'content-type': 'application/json' };
  const written = await request(session, put, JSON.stringify(product));
  assert.equal(written.head[':status'], 201);
  const { version } = JSON.parse(written.text);
  for (const socket of sockets) {
    assert.deepEqual(await socket.next(), { action: 'INSERT', version, product: { productId: 7, ...product } });
  }
  const metrics = await get(session, '/metrics');
  assert.match(metrics.text, /^rowcast_http2_connections 1$/m);
  assert.equal(sum(metrics.text, 'rowcast_connections'), 3);

  const [closing, ...others] = sockets;
  assert.equal(await closing.close(1000), 1000);
  const patch = { ...put, ':method': 'PATCH' };
  await request(session, patch, '{"unitsAvailable":3}');
  for (const socket of others) assert.equal((await socket.next()).product.unitsAvailable, 3);
});

function sum(metrics, name) {
  const lines = metrics.split('\n').filter((line) => line.startsWith(`${name}{`));
  return lines.reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);
}

// A WebSocket on a stream (RFC 8441), with messages of less than 64 KiB.
async function openSocket(session) {
  const headers = { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/websocket', 'sec-websocket-version': 13 };
  const stream = session.request(headers);
  const [head] = await once(stream, 'response');
  assert.equal(head[':status'], 200);
  return new StreamSocket(stream);
}

class StreamSocket {
  #stream;
  #frames;

  constructor(stream) {
    this.#stream = stream;
    this.#frames = frames(stream);
  }

  send(message) {
    this.#write(0x81, Buffer.from(JSON.stringify(message)));
  }

  async next() {
    const { first, payload } = (await this.#frames.next()).value;
    assert.equal(first, 0x81);
    return JSON.parse(payload);
  }

  // Closes, and returns the code that the server closes with; its stream has ended then.
  async close(code) {
    this.#write(0x88, Buffer.from([code >> 8, code & 0xff]));
    const { first, payload } = (await this.#frames.next()).value;
    assert.equal(first, 0x88);
    assert.equal((await this.#frames.next()).done, true);
    return payload.readUInt16BE();
  }

  // A mask of zeros is one.
  #write(first, payload) {
    assert.ok(payload.length < 126);
    this.#stream.write(Buffer.concat([Buffer.from([first, 0x80 | payload.length, 0, 0, 0, 0]), payload]));
  }
}

async function* frames(stream) {
  let unread = Buffer.alloc(0);
  for await (const part of stream) {
    unread = Buffer.concat([unread, part]);
    while (unread.length >= 2) {
      const isShort = unread[1] < 126;
      if (!isShort && unread.length < 4) break;
      const start = isShort ? 2 : 4;
      const end = start + (isShort ? unread[1] : unread.readUInt16BE(2));
      if (unread.length < end) break;
      yield { first: unread[0], payload: unread.subarray(start, end) };
      unread = unread.subarray(end);
    }
  }
}
