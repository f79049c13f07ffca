// What the integration tests were answered is what the OpenAPI document says: `ROWCAST_ANSWERS` names the file in which they
// wrote that down (tests/support/answers.rs).

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Schemas } from './schemas.mjs';
import { readDocument } from './support.mjs';

const file = process.env.ROWCAST_ANSWERS;
const document = await readDocument('openapi.json');
const schemas = new Schemas(document);
// Answers to heads that are malformed or too long, to a peer that may not be served now, or that named no host.
const TO_ANY_HEAD = [400, 421, 431, 503];

test('the integration tests were answered as the document says', { skip: !file && 'ROWCAST_ANSWERS names no file' }, async () => {
  const lines = (await readFile(file, 'utf8')).split('\n').filter(Boolean);
  const faults = new Map();
  const answered = new Set();
  for (const line of lines) {
    const { method, target, ...answer } = JSON.parse(line);
    const where = `${method} ${target}: ${JSON.stringify(answer)}`;
    try {
      const operation = hold(method, pathOf(target), answer, where);
      if (operation) answered.add(`${operation.method} ${operation.path} ${answer.status}`);
    } catch (error) {
      faults.set(`${method} ${answer.status} ${error.message.slice(0, 60)}`, error.message);
    }
  }
  assert.deepEqual([...faults.values()], []);
  assert.ok(answered.size >= 100, `only ${answered.size} kinds of answers`);
});

// Asserts that the document names such an answer; returns the operation, if it is one of the document's.
function hold(method, path, answer, where) {
  // `OPTIONS *`; the way from http to https; and what a test asks its Prometheus.
  if (path === '*' || answer.status === 308 || /^\/(-|api)\//.test(path)) return undefined;
  const template = Object.keys(document.paths).find((template) => isOf(template, path));
  if (!template) return isProblem(answer, [404], where);
  if (method === 'OPTIONS' && answer.status === 204) {
    assert.ok(answer.headers.allow, where);
    return undefined;
  }
  // HEAD is answered as GET, without the body, where that is no upgrade.
  const name = method === 'HEAD' ? 'get' : method.toLowerCase();
  const { responses } = document.paths[template][name] ?? {};
  if (!responses || (method === 'HEAD' && responses[101])) return isProblem(answer, [403, 405], where);
  const operation = { path: template, method: name };
  if (method === 'HEAD') assert.ok(responses[answer.status], where);
  else schemas.isAnswer(operation, answer, where);
  return operation;
}

// Asserts that an answer that no operation has is a problem (RFC 9457) with one of these statuses.
function isProblem({ status, headers }, statuses, where) {
  assert.ok([...statuses, ...TO_ANY_HEAD].includes(status), where);
  assert.equal(headers['content-type'], 'application/problem+json', where);
  return undefined;
}

function pathOf(target) {
  return new URL(target, 'http://localhost').pathname;
}

function isOf(template, path) {
  const [wanted, given] = [template.split('/'), path.split('/')];
  return wanted.length === given.length && wanted.every((part, place) => part.startsWith('{') || part === given[place]);
}
