// A live dashboard over four tables in plain JavaScript: Rowcast's client keeps their rows, and the page is drawn once a
// frame.

// Of the address only the port is taken, since a page runs what it gets from its server.
const port = Number(new URLSearchParams(location.search).get('port') ?? 8080);
const server = `http://127.0.0.1:${port}`;
const names = ['shop.customers', 'shop.articles', 'shop.orders', 'shop.shipments'];
const FRESH_MS = 1200;

// The orders that came a moment ago, and when.
const fresh = new Map();
let client;

import(`${server}/assets/client.js`).then(open, () => {
  at('state').textContent = `nothing answers at ${server}: start it, and load this page again`;
});

function open({ connect }) {
  client = connect(server);
  client.on('state', draw);
  for (const table of names) {
    client.subscribe({ table, keys: '*' }, ({ action, key }) => {
      if (table === 'shop.orders' && action === 'INSERT' && client.isLive(table)) fresh.set(key, performance.now());
      draw();
    });
  }
}

let isDrawing = false;
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    show();
  });
}

const STATES = { connecting: 'connecting …', live: 'live', stale: 'what you see may be old' };

function show() {
  const isLive = client.state === 'live';
  at('state').textContent = STATES[client.state];
  at('state').className = isLive ? 'live' : 'old';
  document.body.classList.toggle('old-rows', !isLive);
  const [, articles, orders, shipments] = names.map((name) => Array.from(client.rows(name), ({ row }) => row));
  at('open').textContent = orders.filter(({ state }) => state === 'placed' || state === 'paid').length;
  at('turnover').textContent = money(orders.reduce((sum, { state, total }) => sum + (state === 'cancelled' ? 0 : Number(total)), 0));
  at('underway').textContent = shipments.filter((parcel) => !parcel.is_delivered).length;
  const low = articles.filter(({ stock, reorder_at }) => stock <= reorder_at);
  at('low').textContent = low.length;
  const last = orders.sort((one, other) => other.order_id - one.order_id).slice(0, 50);
  fill('orders', last, (order) => [
    [order.order_id, 'number'],
    [client.get('shop.customers', order.customer_id)?.name ?? '…'],
    [`${order.pieces} × ${client.get('shop.articles', order.sku)?.title ?? order.sku}`],
    [money(Number(order.total)), 'number'],
    [order.state, order.state],
  ]);
  low.sort((one, other) => one.stock - other.stock || (one.sku < other.sku ? -1 : 1));
  fill('stock', low, (article) => [[article.title], [article.stock, 'number']]);
}

// Makes the rows of a table anew; texts are never taken for HTML.
function fill(id, rows, cells) {
  at(id).replaceChildren(...rows.map((row) => {
    const line = document.createElement('tr');
    flash(line, row.order_id);
    for (const [text, name = ''] of cells(row)) {
      const cell = line.insertCell();
      cell.textContent = text;
      cell.className = name;
    }
    return line;
  }));
}

// A line that is made anew goes on with the animation of the one before.
function flash(line, order) {
  if (!fresh.has(order)) return;
  const age = performance.now() - fresh.get(order);
  if (age > FRESH_MS) return fresh.delete(order);
  line.className = 'new';
  line.style.animationDelay = `${-age}ms`;
}

function money(amount) {
  return amount.toLocaleString('en', { style: 'currency', currency: 'EUR' });
}

function at(id) {
  return document.getElementById(id);
}
