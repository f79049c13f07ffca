import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayWrite, readsAll, refusalText, sendable } from '../../src/http/page/token.js';

function token(claims) {
  const part = (json) => Buffer.from(JSON.stringify(json)).toString('base64url');
  return `${part({ alg: 'HS256' })}.${part(claims)}.c2lnbmF0dXJl`;
}

test('a page may try to write unless its token says that it may not', () => {
  assert.equal(mayWrite(null), true);
  assert.equal(mayWrite(token({ rowcast: { read: '*', write: true } })), true);
  assert.equal(mayWrite(token({ sub: 'Zoë ÿ', rowcast: { write: true } })), true);
  assert.equal(mayWrite(token({ rowcast: { read: '*' } })), false);
  assert.equal(mayWrite(token({ rowcast: { read: '*', write: false } })), false);
  assert.equal(mayWrite(token({})), false);
});

test('a token that is no JWT says nothing, and the server is asked', () => {
  for (const opaque of ['opaque', 'a.b.c', `x.${Buffer.from('null').toString('base64url')}.y`]) {
    assert.equal(mayWrite(opaque), true, opaque);
  }
});

test('a page knows which ids are free if its token reads every product', () => {
  assert.equal(readsAll(null), true);
  assert.equal(readsAll(token({ rowcast: { read: '*' } })), true);
  for (const read of [[1], ['1-9'], undefined]) assert.equal(readsAll(token({ rowcast: { read } })), false);
});

test('a token that a browser cannot send is not sent', () => {
  assert.equal(sendable(null), null);
  const whole = token({ sub: 'Zoë ÿ' });
  assert.equal(sendable(whole), whole);
  for (const broken of [`${whole.slice(0, 20)}…`, `\u200b${whole}`, 'two words', 'a/b', '日本']) assert.equal(sendable(broken), null, broken);
});

test('who is not let in reads what to do', () => {
  assert.match(refusalText(null, 1000), /that you were given/);
  assert.match(refusalText(token({ exp: 1000 }), 1000), /expired/);
  assert.match(refusalText(token({ exp: 1001 }), 1000), /not accepted/);
  assert.match(refusalText('opaque', 1000), /not accepted/);
});
