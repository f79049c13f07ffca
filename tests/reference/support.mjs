// The documents, servers that have what their examples begin with, and requests to them.

import { createHmac } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { Server, temporaryDirectory } from '../browser/server.mjs';

const KEY = 'a key of at least thirty-two bytes';

export async function readDocument(name) {
  return JSON.parse(await readFile(new URL(`../../docs/${name}`, import.meta.url), 'utf8'));
}

// A token that grants what this `rowcast` claim says, for a minute.
export function token(claim) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1000) + 60;
  const signed = `${part({ alg: 'HS256' })}.${part({ exp, rowcast: claim })}`;
  return `${signed}.${createHmac('sha256', KEY).update(signed).digest('base64url')}`;
}

const EVERYTHING = { read: '*', write: true, tables: { orders: { read: '*', write: true } } };

// A server whose store has what the document's examples begin with; with keys for tokens, if it is to be guarded.
export async function begin(t, document, { isGuarded = false, options = [] } = {}) {
  const all = ['--cores', '1', ...options];
  if (isGuarded) {
    const key = join(await temporaryDirectory(t), 'key');
    await writeFile(key, KEY);
    all.push('--jwt-key', key);
  }
  const server = await Server.start(t, { options: all, token: isGuarded ? token(EVERYTHING) : undefined });
  for (const { method, path, body } of document['x-before-examples']) await server.send(method, path, body);
  return server;
}

// Sends a request with just these headers. The answer: status, headers and text.
export async function ask(url, { method = 'GET', headers = {}, body } = {}) {
  const request = http.request(url, { method, headers });
  const answered = new Promise((resolve, reject) => {
    request.once('error', reject);
    request.once('response', resolve);
    request.once('upgrade', (response, socket) => {
      socket.destroy();
      resolve(response);
    });
  });
  request.end(body);
  const response = await answered;
  const isUpgraded = response.statusCode === 101;
  const text = isUpgraded ? '' : (await buffer(response)).toString('utf8');
  return { status: response.statusCode, headers: response.headers, text };
}

// The targets of all references within a document that are not there.
export function danglingReferences(document) {
  const dangling = [];
  const visit = (node) => {
    if (node === null || typeof node !== 'object') return;
    if (typeof node.$ref === 'string' && at(document, node.$ref) === undefined) dangling.push(node.$ref);
    Object.values(node).forEach(visit);
  };
  visit(document);
  return dangling;
}

// The part of a document that a reference within it points to (RFC 6901).
export function at(document, reference) {
  const names = reference.replace(/^#\//, '').split('/');
  return names.reduce((node, name) => node?.[name.replaceAll('~1', '/').replaceAll('~0', '~')], document);
}

