// What the server's store has.

import http from 'k6/http';
import { authorization } from './access.js';
import { now, pause } from './clock.js';
import { stampOf } from './stamp.js';

// The rows of a run's products, page by page.
function rows({ BASE_URL, FIRST_ID, PRODUCTS }) {
  const found = [];
  for (let after = FIRST_ID - 1; after !== null && after < FIRST_ID + PRODUCTS - 1; ) {
    const reply = http.get(`${BASE_URL}/products?limit=1000&after=${after}`, {
      headers: authorization,
      tags: { name: 'GET /products' },
    });
    if (reply.status !== 200) throw new Error(`GET /products was answered ${reply.status}`);
    const { products, next } = reply.json();
    found.push(...products.filter(({ productId }) => productId < FIRST_ID + PRODUCTS));
    after = next;
  }
  return found;
}

// The version of each product once its last change is written, or null where that is not so at `deadline`.
export async function finalVersions(knobs, deadline) {
  for (;;) {
    const found = rows(knobs);
    if (found.length === knobs.PRODUCTS && found.every((row) => stampOf(row)?.last)) {
      return new Map(found.map(({ productId, version }) => [productId, version]));
    }
    if (now() > deadline) return null;
    await pause(250);
  }
}
