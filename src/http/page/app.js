// The live page, joined: the client tells the rows of a table, the shelf keeps them as they are drawn, and the forms write
// over HTTP. What was written comes back through the client like any other change. The table is that of products, unless the
// address names one (`/?table=orders`): that is shown whatever its columns, and not written.

import { AnyRows } from './any-rows.js';
import { AnyTable, tableNamed } from './any-table.js';
import { createProduct, deleteProduct, knock, patchProduct, useToken } from './api.js';
import { connect } from './client.js';
import { Controls } from './controls.js';
import { Editor } from './editor.js';
import { follow } from './following.js';
import { columnsLeftText, forbiddenText, nameTable, noTableText } from './named.js';
import { PRODUCTS } from './products.js';
import { ProductRows } from './row.js';
import { Rows } from './rows.js';
import { SAMPLES } from './samples.js';
import { Shelf } from './shelf.js';
import { Status } from './status.js';
import { countText } from './text.js';
import { mayWrite, readsAll, refusalText, sendable, takeToken, TokenDialog } from './token.js';
import { parseExactly } from './values.js';

const element = (id) => document.getElementById(id);

const tableName = tableNamed(location.search);
const isNamed = tableName !== null;
const table = isNamed ? new AnyTable(tableName) : PRODUCTS;
const drawing = isNamed
  ? new AnyRows(element('table'), element('sort-column'), { columns: columnsChanged })
  : new ProductRows(element('row'));

let token = takeToken();
let isLive = false;
let isOpened = false;
let isComplete = false;
let isRefused = false;
let summary = '';

const shelf = new Shelf(table, (id, isNew) => {
  const row = shelf.get(id);
  drawing.changed(id, row);
  // The rows that are there when the page comes are new only to the page.
  rows.changed(id, isNew && isComplete);
  editor.follow(id, row);
});

const rows = new Rows(element('rows'), drawing, table, shelf, {
  edit: (id) => shelf.get(id) && editor.edit(shelf.get(id)),
  delete: (id) => attempt(() => deleteProduct(id)),
  drawn: drawSummary,
  focusLost: () => (element('add').hidden ? controls.focus() : element('add').focus()),
});

const editor = new Editor(element('editor'), {
  create: (product) => write(() => createProduct(product)),
  patch: (id, fields) => write(() => patchProduct(id, fields)),
  // A page that does not know all products cannot know which ids are free.
  nextFreeId: () => (isComplete && readsAll(sendable(token)) ? shelf.nextFreeId() : null),
});

const controls = new Controls(element, table.firstColumn, {
  search: (text) => rearrange(() => rows.search(text)),
  sort: (column, isDescending) => rearrange(() => rows.sortBy(column, isDescending)),
});

const client = connect('', {
  token: sendable(token),
  parse: isNamed ? parseExactly : JSON.parse,
  losesChanges: document.body.dataset.slowConsumer === 'drop',
});
// What is thrown on the page has no words for who reads it.
client.on('error', (error) => (error.name === 'RowcastError' ? notice(error.message) : console.error(error)));
client.on('skipped', (count) => status.skipped(count));

const status = new Status(() => client.hurry());
const tokenDialog = new TokenDialog(element('token'), (given) => {
  client.token = sendable(given);
  use(given);
});

function entered(state, retryAt) {
  isLive = state === 'live';
  status.entered(state, retryAt);
  element('table').classList.toggle('old', !isLive);
  element('old-note').hidden = isLive || !isComplete;
  if (state === 'connecting') isOpened = false;
  else if (state !== 'waiting') isOpened = true;
  else if (!isOpened) askForToken();
}

function use(given) {
  token = given;
  useToken(sendable(token));
  offerWrites(!isNamed && mayWrite(sendable(token)));
}

function offerWrites(isOffered) {
  document.body.classList.toggle('read-only', !isOffered);
  element('add').hidden = !isOffered;
  element('empty-writer').hidden = !isOffered;
  element('empty-reader').hidden = isOffered;
}

// A browser does not tell its page why a socket did not open; the answer to a request does.
async function askForToken() {
  if (tokenDialog.isOpen) return;
  try {
    await knock(tableName);
  } catch (error) {
    if (error.status === 401) tokenDialog.ask(refusalText(token, Date.now() / 1000));
  }
}

async function write(send) {
  try {
    await send();
  } catch (error) {
    if (error.status === 403) offerWrites(false);
    throw error;
  }
  if (!isLive) notice('Saved. It shows here once this page is live again.');
}

async function addSamples() {
  for (const product of SAMPLES) await createProduct(product);
}

// Runs a write that has no form to show its error.
async function attempt(run) {
  notice('');
  try {
    await write(run);
  } catch (error) {
    notice(error.message);
  }
}

// The table begins anew, so it is shown from its beginning.
function rearrange(run) {
  run();
  if (element('products').getBoundingClientRect().top < 0) element('products').scrollIntoView();
}

function notice(text) {
  element('notice-text').textContent = text;
  element('notice').hidden = text === '';
}

// The table of a named one has other columns; some have no room.
function columnsChanged(left) {
  controls.columnsChanged();
  element('columns-left').textContent = columnsLeftText(left);
  element('columns-left').title = left.join(', ');
}

// What the page says of a refusal, where it knows better than the server what is shown.
function wordsOf(code) {
  if (code === 'unknown_table') return noTableText(tableName);
  return code === 'forbidden' ? forbiddenText(tableName) : null;
}

// Says how many rows there are, and what is shown in place of them if there are none.
function drawSummary() {
  const { found } = rows;
  const { size } = shelf;
  controls.found(found);
  const drawn = [found, size, isComplete, isRefused, controls.isSearching].join();
  if (drawn === summary) return;
  summary = drawn;
  const all = countText(size);
  element('count').textContent = controls.isSearching ? `${countText(found)} of ${all}` : size > 0 ? all : '';
  element('table').setAttribute('aria-rowcount', found + 1);
  element('table').hidden = found === 0;
  element('finder').hidden = size === 0 && !controls.isSearching;
  element('nothing').hidden = found > 0 || size === 0;
  element('empty').hidden = !isComplete || size > 0;
  element('loading').hidden = isComplete || isRefused || size > 0;
}

element('add').addEventListener('click', () => editor.add());
element('add-first').addEventListener('click', () => editor.add());
element('add-samples').addEventListener('click', () => attempt(addSamples));
element('notice-close').addEventListener('click', () => notice(''));

if (isNamed) nameTable(tableName, element);
use(token);
follow(client, table.subscription, {
  state: entered,
  row: (change) => shelf.take(change),
  change: () => status.changed(),
  complete: () => {
    isComplete = true;
    isRefused = false;
    notice('');
    drawSummary();
  },
  refused: (text, code) => {
    isRefused = true;
    notice(wordsOf(code) ?? text);
    drawSummary();
  },
});
