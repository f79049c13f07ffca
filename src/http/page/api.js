// Writing products over HTTP. Every failure is an ApiError whose message can be shown as it is. Addresses are relative to
// the page's, since a proxy may serve it under a path of its own.

const TIMEOUT_MS = 15_000;

let token = null;

// Sets the token that every call is sent with from now on; null for nothing.
export function useToken(given) {
  token = given;
}

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

// Asks for next to nothing, to learn whether the server answers, and whether it takes the token. `table`: the one that is
// shown, unless it is that of products.
export function knock(table) {
  return call('GET', `${table === null ? 'products' : pathOf(table)}?limit=1`);
}

export async function createProduct(product) {
  try {
    return await call('POST', 'products', { body: product });
  } catch (error) {
    if (error.status !== 409) throw error;
    throw new ApiError(`There is a product ${product.productId} already. Choose another ID.`, error.status);
  }
}

export function patchProduct(id, fields) {
  return call('PATCH', `products/${id}`, { body: fields, contentType: 'application/merge-patch+json' });
}

export function deleteProduct(id) {
  return call('DELETE', `products/${id}`);
}

function pathOf(table) {
  return `tables/${encodeURIComponent(table)}`;
}

async function call(method, path, { body, contentType = 'application/json' } = {}) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  const request = { method, headers, cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    headers['content-type'] = contentType;
  }
  let response, text;
  try {
    response = await fetch(path, request);
    text = await response.text();
  } catch {
    throw new ApiError('The server cannot be reached. Try again in a moment.');
  }
  if (!response.ok) throw new ApiError(problemText(response, text), response.status);
  return text === '' ? null : JSON.parse(text);
}

// The sentence of a problem document (RFC 9457), or at least the status.
function problemText(response, text) {
  try {
    const { detail, title } = JSON.parse(text);
    if (detail ?? title) return detail ?? title;
  } catch {
    // A proxy's own page.
  }
  return `The server answered ${response.status}.`;
}
