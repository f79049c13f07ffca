// Sockets that stay, on a few products each, and a steady rate of changes: how long a change takes to reach its
// readers.

import { load, options as optionsOf, readToTheEnd } from './lib/load.js';

const steady = load('steady', { VUS: 4, SOCKETS: 50, PRODUCTS: 100, SUBSCRIPTIONS: 20, RATE: 100, DURATION: '15s' });

export const options = optionsOf(steady.knobs);
export const { publish, teardown, handleSummary } = steady;

export const read = () => readToTheEnd(steady.knobs);
