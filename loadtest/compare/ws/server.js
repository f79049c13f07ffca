// Publish and subscribe on the package ws. Its documentation leaves topics to the program; what it advises for speed is
// no compression, no check of UTF-8, and one Buffer that is sent to all.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const socketsByProduct = new Map();
const subscribed = Buffer.from(JSON.stringify({ reply: 1, ok: true }));

const http = createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const message = Buffer.concat(parts);
    for (const socket of socketsByProduct.get(request.url.slice('/products/'.length)) ?? []) {
      socket.send(message, { binary: false });
    }
    response.writeHead(204).end();
  });
});

const server = new WebSocketServer({ server: http, perMessageDeflate: false, skipUTF8Validation: true });
server.on('connection', (socket) => {
  const mine = new Set();
  socket.on('message', (text) => {
    for (const id of JSON.parse(text).productIDs) {
      const product = String(id);
      if (!socketsByProduct.has(product)) socketsByProduct.set(product, new Set());
      socketsByProduct.get(product).add(socket);
      mine.add(product);
    }
    socket.send(subscribed, { binary: false });
  });
  socket.on('error', () => {});
  socket.on('close', () => mine.forEach((product) => socketsByProduct.get(product).delete(socket)));
});
http.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });
