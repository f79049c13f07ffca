// A few sockets for three seconds, commands that are refused, and REST once: does everything work at all?

import http from 'k6/http';
import { check } from 'k6';
import { open } from './lib/access.js';
import { websocketUrl } from './lib/knobs.js';
import { load, once, options as optionsOf, readToTheEnd } from './lib/load.js';
import { useOnce } from './lib/rest.js';

const smoke = load('smoke', {
  VUS: 2,
  SOCKETS: 5,
  PRODUCTS: 6,
  SUBSCRIPTIONS: 3,
  RATE: 40,
  DURATION: '3s',
  WARMUP: '500ms',
  P95_MS: 1000,
  P99_MS: 2000,
});
const { knobs } = smoke;
const more = { refusals: once('refusals', 1, knobs), rest: once('rest', 1, knobs) };

export const options = optionsOf(knobs, { more });
export const { publish, teardown, handleSummary } = smoke;

export const read = () => readToTheEnd(knobs);

// An id that no writer of this run uses.
export const rest = () => useOnce(knobs.BASE_URL, knobs.FIRST_ID + knobs.PRODUCTS);

// What is wrong in a command is answered, and the socket stays.
export async function refusals() {
  check(http.get(`${knobs.BASE_URL}/readyz`), { 'the server is ready': ({ status }) => status === 200 });
  const commands = [
    ['not JSON', 'not JSON'],
    ['an unknown command', { command: 'publish', productIDs: [1], id: 1 }],
    ['an id that is no integer', { command: 'subscribe', productIDs: ['1'], id: 2 }],
    ['a resume without its versions', { command: 'subscribe', productIDs: [1], versions: [], epoch: 'x', id: 4 }],
    ['a good command', { command: 'subscribe', productIDs: [knobs.FIRST_ID + knobs.PRODUCTS + 1], id: 3 }],
  ];
  const answers = await ask(commands.map(([, command]) => command));
  commands.forEach(([what], i) => {
    const good = what === 'a good command';
    check(answers[i], {
      [`${what} is answered so`]: (answer) => (good ? answer?.ok === true : answer?.code !== undefined),
    });
  });
}

// Sends one message after the answer to the one before.
function ask(commands) {
  const answers = [];
  return new Promise((resolve) => {
    const socket = open(websocketUrl(knobs));
    const send = (command) => socket.send(typeof command === 'string' ? command : JSON.stringify(command));
    socket.onopen = () => send(commands[0]);
    socket.onmessage = ({ data }) => {
      answers.push(JSON.parse(data));
      if (answers.length < commands.length) send(commands[answers.length]);
      else socket.close();
    };
    socket.onclose = () => resolve(answers);
  });
}
