// Tokens, as somebody signs them who has the server's key.

import { createHmac } from 'node:crypto';

export const SECRET = 'a secret that is as long as it must be';

// A JWT that grants this for so many seconds.
export function tokenOf(rowcast, seconds = 3600) {
  const part = (json) => Buffer.from(JSON.stringify(json)).toString('base64url');
  const body = `${part({ alg: 'HS256' })}.${part({ exp: Date.now() / 1000 + seconds, rowcast })}`;
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`;
}
