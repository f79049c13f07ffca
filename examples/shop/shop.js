// A live dashboard over four tables in plain JavaScript: one WebSocket, one map for each table, drawn once a frame.

const server = new URLSearchParams(location.search).get('server') ?? 'ws://127.0.0.1:8080/websocket';
const names = ['shop.customers', 'shop.articles', 'shop.orders', 'shop.shipments'];

// The rows of a table as the server told them, by their keys, each with its version.
class Table {
  rows = new Map();
  #versions = new Map();
  #unnamed = null;

  get newest() {
    return Math.max(0, ...this.#versions.values());
  }

  // Until the reply, every row that there is is named.
  begin() {
    this.#unnamed = new Set(this.rows.keys());
  }

  end() {
    for (const key of this.#unnamed ?? []) this.rows.delete(key);
    this.#unnamed = null;
  }

  forgetVersions() {
    this.#versions.clear();
  }

  change({ action, version, key, row }) {
    this.#unnamed?.delete(key);
    const known = this.#versions.get(key) ?? 0;
    if (version < known || (version === known && this.rows.has(key))) return false;
    this.#versions.set(key, version);
    if (action === 'DELETE') this.rows.delete(key);
    else this.rows.set(key, row ?? this.rows.get(key) ?? {});
    return true;
  }

  absent(keys, versions) {
    keys.forEach((key, place) => {
      this.#unnamed?.delete(key);
      const known = this.#versions.get(key) ?? 0;
      if (versions[place] > 0 && versions[place] < known) return;
      this.#versions.set(key, Math.max(versions[place], known));
      this.rows.delete(key);
    });
  }
}

const tables = new Map(names.map((name) => [name, new Table()]));
const fresh = new Set();
let epoch = null;
let isLive = false;
let repliesDue = 0;
let tries = 0;

function connect() {
  const socket = new WebSocket(server);
  socket.onopen = () => {
    tries = 0;
    repliesDue = names.length;
    names.forEach((table, id) => {
      const known = epoch === null ? {} : { epoch, newest: tables.get(table).newest };
      tables.get(table).begin();
      socket.send(JSON.stringify({ command: 'subscribe', table, keys: '*', snapshot: true, ...known, id }));
    });
    isLive = true;
  };
  socket.onmessage = ({ data }) => {
    take(JSON.parse(data));
    draw();
  };
  socket.onclose = () => {
    isLive = false;
    draw();
    // Later each time, and not everybody at once.
    setTimeout(connect, Math.min(10_000, 250 * 2 ** tries++) * (0.5 + Math.random()));
  };
}

function take(message) {
  const table = tables.get(message.table);
  if (message.action !== undefined && table?.change(message)) {
    if (message.action === 'INSERT') fresh.add(message.key);
  } else if (message.absent !== undefined) {
    table?.absent(message.absent, message.versions);
  } else if (message.epoch !== undefined) {
    // Versions of another history mean nothing.
    if (message.table === undefined) epoch = message.epoch;
    for (const [name, its] of tables) if (message.table === undefined || message.table === name) its.forgetVersions();
  } else if (message.live !== undefined) {
    isLive = message.live;
  } else if (message.reply !== undefined) {
    if (!message.ok) console.error(message.error);
    tables.get(names[message.reply]).end();
    repliesDue -= 1;
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

const at = (id) => document.getElementById(id);
const money = (amount) => amount.toLocaleString('en', { style: 'currency', currency: 'EUR' });

function show() {
  const [customers, articles, orders, shipments] = names.map((name) => tables.get(name).rows);
  const isWhole = isLive && repliesDue === 0;
  at('state').textContent = isWhole ? 'live' : orders.size > 0 ? 'what you see may be old' : 'connecting …';
  at('state').className = isWhole ? 'live' : 'old';
  document.body.classList.toggle('old-rows', !isWhole);
  const all = [...orders.values()];
  at('open').textContent = all.filter(({ state }) => state === 'placed' || state === 'paid').length;
  at('turnover').textContent = money(all.reduce((sum, { state, total }) => sum + (state === 'cancelled' ? 0 : Number(total)), 0));
  at('underway').textContent = [...shipments.values()].filter((parcel) => !parcel.is_delivered).length;
  const low = [...articles.values()].filter(({ stock, reorder_at }) => stock <= reorder_at);
  at('low').textContent = low.length;
  const last = all.sort((one, other) => other.order_id - one.order_id).slice(0, 50);
  fill('orders', last, (order) => [
    [order.order_id, 'number'],
    [customers.get(order.customer_id)?.name ?? '…'],
    [`${order.pieces} × ${articles.get(order.sku)?.title ?? order.sku}`],
    [money(Number(order.total)), 'number'],
    [order.state, order.state],
  ], (order) => order.order_id);
  low.sort((one, other) => one.stock - other.stock || (one.sku < other.sku ? -1 : 1));
  fill('stock', low, (article) => [[article.title], [article.stock, 'number']], (article) => article.sku);
  fresh.clear();
}

// Makes the rows of a table anew; texts are never taken for HTML.
function fill(id, rows, cells, key) {
  at(id).replaceChildren(...rows.map((row) => {
    const line = document.createElement('tr');
    if (fresh.has(key(row))) line.className = 'new';
    for (const [text, name = ''] of cells(row)) {
      const cell = line.insertCell();
      cell.textContent = text;
      cell.className = name;
    }
    return line;
  }));
}

connect();
