// The OpenAPI document is one, and what it shows is what the server does.
//
// Examples of one name are one exchange: the parameters and the body of that name are answered with the status under which
// the name stands, its headers and its body.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Schemas } from './schemas.mjs';
import { ask, begin, danglingReferences, readDocument, token } from './support.mjs';

const METHODS = ['get', 'put', 'post', 'delete', 'patch'];
const document = await readDocument('openapi.json');
const schemas = new Schemas(document);
const resolved = (part) => schemas.resolved(part);
const entries = (object) => Object.entries(object ?? {});

test('the document is valid OpenAPI 3.1', async () => {
  const { valid, errors } = await new Validator().validate(structuredClone(document));
  assert.ok(valid, JSON.stringify(errors, null, 2));
  assert.deepEqual(danglingReferences(document), []);
});

test('the server gives the documents to everybody as they are', async (t) => {
  const server = await begin(t, document, { isGuarded: true });
  for (const name of ['openapi.json', 'asyncapi.json']) {
    const { status, headers, text } = await ask(`${server.url}/${name}`);
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'application/json');
    assert.deepEqual(JSON.parse(text), await readDocument(name));
  }
});

// Examples that change nothing share a server; the others have one each.
const GROUNDS = [
  ['one that changes nothing', (exchange) => !changes(exchange) && exchange.token === undefined, {}],
  ['one that changes nothing and needs a token', (exchange) => !changes(exchange) && exchange.token !== undefined, { isGuarded: true }],
];
const all = [...exchanges()];

test('there are examples', () => assert.ok(all.length >= 50, `${all.length} of them`));

for (const [kind, isOfKind, options] of GROUNDS) {
  test(`every example is answered as it says: ${kind}`, async (t) => {
    const server = await begin(t, document, options);
    for (const exchange of all.filter(isOfKind)) await isAnsweredAsItSays(exchange, server);
  });
}

describe('every example is answered as it says: one that changes something', { concurrency: 4 }, () => {
  for (const exchange of all.filter(changes)) {
    test(exchange.name, async (t) => {
      await isAnsweredAsItSays(exchange, await begin(t, document, { isGuarded: exchange.token !== undefined }));
    });
  }
});

function changes({ method, status }) {
  return method !== 'get' && status < 300;
}

async function isAnsweredAsItSays(exchange, server) {
  const request = requestOf(exchange, server.url);
  const answer = await ask(request.url, request);
  const where = `${exchange.name} of ${exchange.method} ${exchange.path}: ${JSON.stringify(answer)}`;
  isAsItSays(exchange, answer, where);
  if (exchange.body !== undefined && exchange.status < 400) schemas.isTaken(exchange, where);
  schemas.isAnswer(exchange, answer, where);
}

// Yields every exchange of the document.
function* exchanges() {
  for (const [path, item] of entries(document.paths)) {
    const unanswered = new Set((item.parameters ?? []).flatMap((parameter) => Object.keys(parameter.examples ?? {})));
    for (const method of METHODS.filter((known) => item[known])) {
      const operation = item[method];
      const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolved);
      const bodies = entries(operation.requestBody?.content);
      const asked = [...(operation.parameters ?? []).map(resolved), ...bodies.map(([, content]) => content)];
      asked.flatMap((part) => Object.keys(part.examples ?? {})).forEach((name) => unanswered.add(name));
      for (const answer of answersOf(operation)) {
        const { name } = answer;
        unanswered.delete(name);
        const given = parameters.filter(({ examples }) => examples?.[name]);
        const values = given.map((parameter) => ({ parameter, value: parameter.examples[name].value }));
        const [type, content] = bodies.find(([, { examples }]) => examples?.[name]) ?? [];
        const missing = parameters.filter((parameter) => parameter.required && !given.includes(parameter));
        assert.deepEqual(missing, [], `${name} of ${method} ${path}`);
        yield { ...answer, path, method, operation, values, type, body: content?.examples[name].value };
      }
    }
    assert.deepEqual([...unanswered], [], `of these examples of ${path} nothing says how they are answered`);
  }
}

// Returns the named answers of an operation: status, headers, and the value of the body if there is one.
function answersOf(operation) {
  const answers = new Map();
  for (const [status, response] of entries(operation.responses)) {
    const of = (name, example) => {
      const answer = answers.get(name) ?? { name, status: Number(status), headers: {} };
      assert.equal(answer.status, Number(status), `${name} has two answers`);
      if ('x-token' in example) answer.token = example['x-token'];
      answers.set(name, answer);
      return answer;
    };
    const { headers, content } = resolved(response);
    for (const [type, { examples }] of entries(content)) {
      for (const [name, example] of entries(examples)) Object.assign(of(name, example), { value: example.value, answerType: type });
    }
    for (const [header, described] of entries(headers)) {
      for (const [name, example] of entries(resolved(described).examples)) of(name, example).headers[header] = example.value;
    }
  }
  return [...answers.values()];
}

function requestOf({ path, method, values, type, body, token: claim }, base) {
  const headers = { ...(type && { 'content-type': type }), ...(claim && { authorization: `Bearer ${token(claim)}` }) };
  const query = new URLSearchParams();
  for (const { parameter, value } of values) {
    if (parameter.in === 'path') path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    if (parameter.in === 'query') [value].flat().forEach((one) => query.append(parameter.name, one));
    if (parameter.in === 'header') headers[parameter.name] = value;
  }
  const url = `${base}${path}${query.size > 0 ? `?${query}` : ''}`;
  return { url, method: method.toUpperCase(), headers, body: body === undefined ? undefined : JSON.stringify(body) };
}

function isAsItSays({ status, headers, value }, answer, where) {
  assert.equal(answer.status, status, where);
  for (const [name, wanted] of entries(headers)) assert.equal(answer.headers[name.toLowerCase()], wanted, where);
  if (value === undefined) assert.equal(answer.text, '', where);
  else if (typeof value === 'string') assert.equal(answer.text, value, where);
  else assert.deepEqual(JSON.parse(answer.text), value, where);
}
