// The live page, joined: the connection feeds the model of the table, the model tells the rows, and the forms write
// over HTTP.

import { ApiError, createProduct, deleteProduct, listProducts, patchProduct, readProduct, useToken } from './api.js';
import { ConnectionLost, LiveConnection } from './connection.js';
import { Editor } from './editor.js';
import { ProductTable } from './products.js';
import { ProductRows } from './rows.js';
import { SAMPLES } from './samples.js';
import { Status } from './status.js';
import { Sync } from './sync.js';
import { countText } from './text.js';
import { subprotocols, takeToken, TokenDialog } from './token.js';

const element = (id) => document.getElementById(id);

const table = new ProductTable((id, listed) => {
  rows.changed(id, listed);
  editor.follow(id, table.get(id));
});

const rows = new ProductRows(element('rows'), element('row'), table, {
  edit: (id) => table.get(id) && editor.edit(table.get(id)),
  delete: (id) => attempt(() => remove(id)),
  drawn: (added) => {
    drawSummary();
    if (added && connection.isLive) follow(() => sync.tableGrew());
  },
});

const editor = new Editor(element('editor'), {
  create,
  patch: async (id, fields) => written('UPDATE', await patchProduct(id, fields)),
  // While a next page waits, this page cannot know which ids are free.
  nextFreeId: () => (table.frontier === Infinity ? table.nextFreeId() : null),
});

const socketAddress = new URL('websocket', document.baseURI);
socketAddress.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';

const connection = new LiveConnection(socketAddress.href, {
  state: (state, retryAt) => {
    status.entered(state, retryAt);
    if (state === 'connecting') opened = false;
    if (state === 'waiting' && !opened) askForToken();
  },
  open: () => {
    opened = true;
    sync = new Sync(table, connection, listProducts, notice);
    follow(async () => {
      await sync.catchUp();
      listedOnce = true;
      connection.ready();
    });
  },
  change: (change) => {
    status.changed();
    if (!table.apply(change)) read(change.product.productId);
  },
  skipped: (count) => status.skipped(count),
  error: notice,
});

const status = new Status(() => connection.hurry());
const tokenDialog = new TokenDialog(element('token'), (token) => {
  use(token);
  connection.hurry();
});
let sync;
let listedOnce = false;
let opened = false;

function use(token) {
  useToken(token);
  connection.subprotocols = subprotocols(token);
}

// A browser does not tell its page why a socket did not open; the answer to a request does.
async function askForToken() {
  if (tokenDialog.isOpen) return;
  try {
    await listProducts();
  } catch (error) {
    if (error.status === 401) tokenDialog.ask(error.message);
  }
}

// Keeps the table current. If it fails, the way back is the one after a lost connection.
async function follow(run) {
  const current = sync;
  try {
    await run();
    drawSummary();
  } catch (error) {
    if (sync !== current || error instanceof ConnectionLost) return;
    if (!(error instanceof ApiError)) throw error;
    connection.abandon();
  }
}

async function create(product) {
  written('INSERT', await createProduct(product));
  if (product.productId > table.frontier) {
    notice(`Product ${product.productId} was added. It comes after the products that are loaded.`);
  }
}

// A writer sees its own change at once, also while the connection is away.
function written(action, { version, ...product }) {
  table.apply({ action, version, product });
}

async function remove(id) {
  const version = table.get(id)?.version;
  await deleteProduct(id);
  table.gone(id, version);
}

// A row too large for a change is fetched.
async function read(id) {
  const before = table.get(id)?.version ?? -1;
  try {
    const { version, ...product } = await readProduct(id);
    table.put(product, version);
  } catch (error) {
    if (error.status === 404) table.gone(id, before);
    // Anything else is made good by the list after the next connection.
  }
}

async function addSamples() {
  for (const product of SAMPLES) await create(product);
}

// Runs a write that has no form to show its error.
async function attempt(run) {
  notice('');
  try {
    await run();
  } catch (error) {
    notice(error.message);
  }
}

function notice(text) {
  element('notice-text').textContent = text;
  element('notice').hidden = text === '';
}

function drawSummary() {
  const more = table.frontier < Infinity;
  const empty = listedOnce && table.size === 0 && !more;
  element('count').textContent = table.size > 0 ? `${countText(table.size)}${more ? ' loaded' : ''}` : '';
  element('table').hidden = table.size === 0;
  element('empty').hidden = !empty;
  element('loading').hidden = listedOnce || table.size > 0;
  element('more').hidden = !more;
}

function exampleCommand() {
  const lines = JSON.stringify(SAMPLES[0]).replaceAll(',"', ',\n       "');
  return `curl ${new URL('products', document.baseURI)} \\\n  -H 'content-type: application/json' \\\n  -d '${lines}'`;
}

element('empty-command').textContent = exampleCommand();
element('add').addEventListener('click', () => editor.add());
element('add-first').addEventListener('click', () => editor.add());
element('add-samples').addEventListener('click', () => attempt(addSamples));
element('more').addEventListener('click', () => follow(() => sync.loadMore()));
element('notice-close').addEventListener('click', () => notice(''));
addEventListener('online', () => connection.hurry());
document.addEventListener('visibilitychange', () => document.hidden || connection.hurry());

use(takeToken());
connection.connect();
