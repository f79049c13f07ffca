// One product that everybody watches: each change goes to every socket.

import { load, options as optionsOf, readToTheEnd } from './lib/load.js';

const hot = load('hot-product', {
  VUS: 4,
  SOCKETS: 100,
  PRODUCTS: 1,
  SUBSCRIPTIONS: 1,
  PUBLISHERS: 1,
  RATE: 10,
  DURATION: '15s',
});

export const options = optionsOf(hot.knobs);
export const { publish, teardown, handleSummary } = hot;

export const read = () => readToTheEnd(hot.knobs);
