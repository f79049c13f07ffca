// The life of one product over REST, with what must be refused on the way.

import http from 'k6/http';
import { check } from 'k6';
import { authorization } from './access.js';

const JSON_BODY = { 'Content-Type': 'application/json', ...authorization };

const product = (units) => ({
  manufacturer: 'k6',
  pricePerUnit: '5EUR',
  unitsAvailable: units,
  productName: 'a product of a load test',
});

// Creates product `id`, which must not exist, reads and changes it, and deletes it.
export function useOnce(baseUrl, id) {
  const url = `${baseUrl}/products/${id}`;
  const send = (method, status, body, at = url) => request(method, at, status, body);

  send('GET', 404);
  const created = send('POST', 201, { productId: id, ...product(6) }, `${baseUrl}/products`);
  check(created, {
    'POST answers where the product is': ({ headers }) => headers.Location === `/products/${id}`,
    'POST answers the version twice': (reply) => reply.headers.Etag === `"${reply.json('version')}"`,
  });
  send('POST', 409, { productId: id, ...product(6) }, `${baseUrl}/products`);
  let version = created.json('version');
  const grows = (reply) => {
    const before = version;
    version = reply.json('version');
    check(version, { 'a write answers a greater version': () => version > before });
  };

  check(send('GET', 200), { 'GET answers what was written': (reply) => reply.json('unitsAvailable') === 6 });
  send('PUT', 400, { productId: id + 1, ...product(5) });
  send('PUT', 400, { manufacturer: 'k6' });
  send('PUT', 400, 'not JSON');
  grows(send('PUT', 200, product(5)));
  send('PATCH', 400, { unitsAvailable: 'many' });
  const patched = send('PATCH', 200, { unitsAvailable: 4 });
  grows(patched);
  check(patched, {
    'PATCH changes only what it names': (reply) =>
      reply.json('unitsAvailable') === 4 && reply.json('productName') === product(0).productName,
  });
  check(send('GET', 200, undefined, `${baseUrl}/products?limit=1&after=${id - 1}`), {
    'the list goes on after an id': (reply) => reply.json('products.0.productId') === id,
  });
  send('GET', 400, undefined, `${baseUrl}/products?limit=0`);
  send('GET', 400, undefined, `${baseUrl}/products/one`);
  send('DELETE', 204);
  send('DELETE', 404);
  send('PATCH', 404, { unitsAvailable: 3 });
  send('GET', 404);
}

// Sends, and checks the status; a problem must come as a problem.
function request(method, url, status, body) {
  const reply = http.request(method, url, typeof body === 'object' ? JSON.stringify(body) : body, {
    headers: body === undefined ? authorization : JSON_BODY,
    responseCallback: http.expectedStatuses(status),
    tags: { name: `${method} ${status}` },
  });
  check(reply, { [`${method} answers ${status}`]: () => reply.status === status });
  if (status >= 400) {
    check(reply, {
      'a problem comes as problem+json': () =>
        reply.headers['Content-Type'] === 'application/problem+json' && reply.json('status') === status,
    });
  }
  return reply;
}
