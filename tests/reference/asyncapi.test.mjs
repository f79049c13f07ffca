// The AsyncAPI document is one, and its dialogues are what client and server say to each other.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import Ajv from 'ajv';
import { WebSocket } from 'ws';
import { ask, begin, danglingReferences, readDocument, token } from './support.mjs';

// The epoch of the examples; in truth it is drawn by chance.
const EPOCH = 'k3m';
const PATIENCE_MS = 30_000;
const document = await readDocument('asyncapi.json');
const { messages, schemas } = document.components;
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
ajv.addSchema(document, 'asyncapi.json');
const examples = new Map(
  Object.entries(messages).flatMap(([kind, { examples = [] }]) => examples.map(({ name, payload }) => [name, { kind, payload }])),
);
const COMMANDS = kindsOf('receive');
const TOLD = [...kindsOf('send'), ...Object.values(document.operations).flatMap(({ reply }) => names(reply?.messages))];

test('the document is valid AsyncAPI 3.0', () => {
  const specification = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0-without-$id.json');
  const validator = new Ajv({ strict: false, validateFormats: false });
  assert.ok(validator.validate(specification, document), JSON.stringify(validator.errors, null, 2));
  assert.deepEqual(danglingReferences(document), []);
});

test('every message is of exactly one kind, and somebody sends it', () => {
  for (const [name, { kind, payload }] of examples) {
    const sent = COMMANDS.includes(kind) ? COMMANDS : TOLD;
    assert.deepEqual([...new Set(sent)].filter((other) => complaintOf(other, payload) === null), [kind], name);
  }
  assert.deepEqual([...new Set([...COMMANDS, ...TOLD])].sort(), Object.keys(messages).sort());
});

test('every error code has an example', () => {
  const shown = new Set([...examples.values()].map(({ payload }) => payload.code));
  assert.deepEqual(schemas.ErrorCode.oneOf.map((code) => code.const).filter((code) => !shown.has(code)), []);
});

test('every example is said in a dialogue', () => {
  const said = document['x-dialogues'].flatMap(({ steps }) => steps.flatMap(({ client, server }) => [client, server].flat()));
  assert.deepEqual([...examples.keys()].filter((name) => !said.includes(name)), []);
  const count = Object.values(messages).reduce((sum, { examples = [] }) => sum + examples.length, 0);
  assert.equal(examples.size, count, 'two examples have one name');
});

describe('client and server speak as in the dialogue', { concurrency: 4 }, () => {
  for (const { name, steps, token: claim, options } of document['x-dialogues']) {
    test(name, async (t) => {
      const server = await begin(t, document, { isGuarded: claim !== undefined, options });
      const speaker = new Speaker(t, server, claim && { authorization: `Bearer ${token(claim)}` });
      await speaker.open();
      for (const step of steps) await speaker.take(step);
      await speaker.hasHeardAll();
    });
  }
});

// A client that says and hears what a dialogue says.
class Speaker {
  #t;
  #server;
  #headers;
  #socket;
  #heard;
  #epoch;
  #isClosed = false;

  constructor(t, server, headers) {
    this.#t = t;
    this.#server = server;
    this.#headers = headers;
  }

  async open() {
    const url = `${this.#server.url.replace('http', 'ws')}/websocket`;
    const socket = new WebSocket(url, { headers: this.#headers, perMessageDeflate: false });
    this.#t.after(() => socket.terminate());
    this.#socket = socket;
    const heard = new Inbox();
    this.#heard = heard;
    socket.on('message', (data) => heard.put({ message: JSON.parse(data) }));
    socket.on('close', (close) => heard.put({ close }));
    await once(socket, 'open');
  }

  async take(step) {
    if (step.client) this.#say(examples.get(step.client).payload, step.token);
    else if (step.text) this.#socket.send(step.text);
    else if (step.server) await this.#hear([step.server].flat());
    else if (step.message) assert.equal(complaintOf(step.message, await this.#next()), null);
    else if (step.http) await this.#ask(step.http);
    else if (step.stop) this.#server.signal('SIGTERM');
    else if (step.close) await this.#isClosedWith(step.close);
    else if (step.reconnect) await this.#reconnect();
    else assert.fail(`no such step: ${JSON.stringify(step)}`);
  }

  // Whatever else the server had to say would come before the answer to this.
  async hasHeardAll() {
    if (this.#isClosed) return;
    this.#say({ command: 'unsubscribe', productIDs: [], id: 'the end' });
    assert.equal((await this.#next()).reply, 'the end');
  }

  #say(message, claim) {
    const payload = claim ? { ...message, token: token(claim) } : message;
    const { epoch } = payload;
    if (epoch === EPOCH) assert.ok(this.#epoch, 'the server has told its epoch');
    this.#socket.send(JSON.stringify(epoch === EPOCH ? { ...payload, epoch: this.#epoch } : payload));
  }

  // Hears these, in any order.
  async #hear(wanted) {
    const inOrder = (payloads) => payloads.map((payload) => JSON.stringify(sorted(payload))).sort();
    const heard = [];
    for (const _ of wanted) {
      const message = await this.#next();
      if (message.epoch && !message.table) this.#epoch = message.epoch;
      heard.push(message.epoch ? { ...message, epoch: EPOCH } : message);
    }
    assert.deepEqual(inOrder(heard), inOrder(wanted.map((name) => examples.get(name).payload)));
  }

  async #next() {
    const { message, close } = await this.#heard.take();
    assert.ok(message, `the server closed with ${close}`);
    const kinds = [...new Set(TOLD)].filter((kind) => complaintOf(kind, message) === null);
    assert.equal(kinds.length, 1, `${JSON.stringify(message)} is of the kinds ${kinds}`);
    return message;
  }

  async #ask({ method, path, body }) {
    const headers = { 'content-type': 'application/json', ...this.#headers };
    const answer = await ask(this.#server.url + path, { method, headers, body: body && JSON.stringify(body) });
    assert.ok(answer.status < 300, JSON.stringify(answer));
  }

  async #isClosedWith(code) {
    assert.deepEqual(await this.#heard.take(), { close: code });
    assert.ok(document.channels.websocket['x-close-codes'].some((known) => known.code === code));
    this.#isClosed = true;
  }

  async #reconnect() {
    await this.hasHeardAll();
    this.#socket.close();
    await this.open();
  }
}

// What has come and was not taken yet.
class Inbox {
  #waiting = [];
  #takers = [];

  put(item) {
    const taker = this.#takers.shift();
    if (taker) taker(item);
    else this.#waiting.push(item);
  }

  take() {
    if (this.#waiting.length > 0) return this.#waiting.shift();
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('the server says nothing')), PATIENCE_MS);
      this.#takers.push((item) => {
        clearTimeout(late);
        resolve(item);
      });
    });
  }
}

// Returns why a payload is no message of this kind, or null if it is one.
function complaintOf(kind, payload) {
  const validate = ajv.getSchema(`asyncapi.json#/components/messages/${kind}/payload`);
  return validate(payload) ? null : ajv.errorsText(validate.errors);
}

function kindsOf(action) {
  return Object.values(document.operations).flatMap((operation) => (operation.action === action ? names(operation.messages) : []));
}

function names(references = []) {
  return references.map(({ $ref }) => $ref.split('/').at(-1));
}

function sorted(value) {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort().map(([name, inner]) => [name, sorted(inner)]));
}
