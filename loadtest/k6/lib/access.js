// What the server wants to see of who comes: TOKEN, in every request and handshake, and in no summary.

import { WebSocket } from './websocket.cjs';

// Headers; none without a token.
export const authorization = __ENV.TOKEN ? { Authorization: `Bearer ${__ENV.TOKEN}` } : {};

// Opens a WebSocket.
export const open = (url) => new WebSocket(url, null, { headers: authorization });
