// One subscribed WebSocket that reads only when the script does. k6's older WebSocket module hands over one message and
// reads no further until the handler returns, so a handler that sleeps leaves the rest in the kernel's buffers, and
// when these are full, with the server. It holds its whole virtual user, so there is one such socket per virtual user.

import ws from 'k6/ws';
import { authorization } from './access.js';
import { now } from './clock.js';
import { Ledger } from './ledger.js';
import { settle, subscribed, unexpectedCloses } from './metrics.js';

// Reads until the last change of every product has come, or until `deadline`. `dawdle(ledger)` is called after each
// change and may sleep. With one of `closeCodes` the server may close.
export function readSlowly(url, ids, { dawdle, deadline, closeCodes }) {
  const ledger = new Ledger();
  let isClosing = false;
  ws.connect(url, { headers: authorization }, (socket) => {
    const close = () => {
      isClosing = true;
      socket.close();
    };
    socket.on('open', () => {
      ledger.asked(ids, now());
      socket.send(JSON.stringify({ command: 'subscribe', productIDs: ids, id: 0 }));
      socket.setTimeout(close, Math.max(1, deadline - now()));
    });
    socket.on('message', (text) => {
      const message = JSON.parse(text);
      if (message.action !== undefined) {
        ledger.change(message);
        dawdle(ledger);
      } else if (message.skipped !== undefined) {
        ledger.skip(message.skipped);
      } else if (message.ok) {
        ledger.accepted(ids, now());
        subscribed.add(1);
      }
      if (ledger.isComplete) close();
    });
    socket.on('close', (code) => {
      if (isClosing || closeCodes.includes(code)) return;
      unexpectedCloses.add(1);
      console.error(`a slow socket was closed with ${code}`);
    });
  });
  settle(ledger, { withLast: isClosing, reader: 'slow' });
  return { ledger, wasGivenUp: !isClosing };
}
