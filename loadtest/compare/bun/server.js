// Publish and subscribe on the uWebSockets of Bun, as https://bun.sh/docs/api/websockets recommends: topics in native
// code, `server.publish` for one encoding per message, and no compression.
const subscribed = JSON.stringify({ reply: 1, ok: true });

const { PORT, TLS_DIR } = process.env;
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(PORT),
  tls: TLS_DIR && { cert: Bun.file(`${TLS_DIR}/cert.pem`), key: Bun.file(`${TLS_DIR}/key.pem`) },
  async fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (pathname === '/websocket') {
      return server.upgrade(request) ? undefined : new Response(null, { status: 426 });
    }
    server.publish(pathname.slice('/products/'.length), await request.text());
    return new Response(null, { status: 204 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    // A slow reader's limit that a batch of all publishers never reaches.
    backpressureLimit: 64 * 1024 * 1024,
    message(socket, text) {
      for (const id of JSON.parse(text).productIDs) socket.subscribe(String(id));
      socket.send(subscribed);
    },
  },
});
console.log(`listening on ${server.port}`);
