// What the browser tests share: the server, Chromium and Firefox, and pages that remember everything that went wrong on them.
// Whatever a test starts, it hands to `t.after`, so that it ends also when the test fails.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium, firefox } from 'playwright-core';
import { BINARY, Server, temporaryDirectory } from './server.mjs';

const CHROMIUM = process.env.ROWCAST_CHROMIUM ?? '/usr/bin/chromium';
const FIREFOX = process.env.ROWCAST_FIREFOX ?? '/usr/bin/firefox-esr';
const LEFT_TO_US = { handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false };

export { Server, temporaryDirectory };

// A certificate for this machine: its files, the server's options that name them, and the Chromium's that trust it.
export async function makeCertificate(t) {
  const directory = await temporaryDirectory(t);
  execFileSync(BINARY, ['cert', '--out', directory], { stdio: 'ignore' });
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => join(directory, name));
  const pem = readFileSync(cert);
  const publicKey = new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
  const digest = createHash('sha256').update(publicKey).digest('base64');
  return {
    pem,
    options: ['--tls-cert', cert, '--tls-key', key],
    chromium: [`--ignore-certificate-errors-spki-list=${digest}`],
  };
}

const ADDED_AT_ONCE = 16;

// Adds products, many at a time.
export async function addMany(server, products) {
  const left = [...products];
  const addAll = async () => {
    while (left.length > 0) await (await server.add(left.pop())).arrayBuffer();
  };
  await Promise.all(Array.from({ length: ADDED_AT_ONCE }, addAll));
}

export async function startBrowser(t, args = []) {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    ...LEFT_TO_US,
    chromiumSandbox: process.getuid?.() !== 0,
    args: [
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...args,
    ],
  });
  t.after(() => browser.close());
  return browser;
}

// A Firefox as it is published, which speaks WebDriver BiDi.
export async function startFirefox(t) {
  const browser = await firefox.launch({ executablePath: FIREFOX, channel: 'moz-firefox', ...LEFT_TO_US });
  t.after(() => browser.close());
  return browser;
}

// A page of its own browser profile. `prepare(page)` runs before it loads, `ready(page)` waits until it is.
export async function openPage(t, browser, server, { options = {}, prepare = () => {}, path = '/', ready = live } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  page.faults = rememberFaults(page, server);
  await page.addInitScript(rememberFlashes);
  await prepare(page);
  await page.goto(server.url + path);
  await ready(page);
  return page;
}

export function live(page) {
  return page.locator('#state[data-state="live"]').waitFor();
}

export function row(page, id) {
  return page.locator(`tr[data-id="${id}"]`);
}

export function cell(page, id, key) {
  return row(page, id).locator(`.${key}`);
}

export function waitForText(locator, text) {
  return locator.filter({ hasText: text }).waitFor();
}

// Waits until a cell has flashed; the class itself may be gone by then.
export function waitForFlash(page, id, key) {
  return page.waitForFunction((flashed) => window.flashed.has(flashed), `${id} ${key}`);
}

// Nothing went wrong on the page: no error, no violation of the content security policy, no other host.
// `allowed` matches the console errors that the test provokes.
export function assertFaultless(page, allowed = /^$/) {
  assert.deepEqual(
    page.faults.filter((fault) => !allowed.test(fault)),
    [],
  );
}

function rememberFaults(page, server) {
  const faults = [];
  const origin = () => new URL(server.url).host;
  page.on('console', (message) => message.type() === 'error' && faults.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => faults.push(`error: ${error.stack}`));
  page.on('request', (request) => {
    if (new URL(request.url()).host !== origin()) faults.push(`request: ${request.url()}`);
  });
  page.on('websocket', (socket) => {
    if (new URL(socket.url()).host !== origin()) faults.push(`websocket: ${socket.url()}`);
  });
  return faults;
}

// Runs in the page, before its scripts.
function rememberFlashes() {
  window.flashed = new Set();
  document.addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective}`));
  new MutationObserver((mutations) => {
    for (const { target } of mutations) {
      if (target.classList.contains('flash')) {
        window.flashed.add(`${target.closest('tr').dataset.id} ${target.classList[0]}`);
      }
    }
  }).observe(document, { subtree: true, attributes: true, attributeFilter: ['class'] });
}
