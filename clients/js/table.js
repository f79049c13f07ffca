// A table's rows and topics, which are what subscribers follow: a key each, or '*'.

import { cut, subscribing } from './pieces.js';
import { Replica } from './replica.js';

const ALL = Symbol('*');

export class Table {
  #its;
  #topicsById = new Map();
  #touched = new Set();

  isLost = false;
  isTold = false;
  isRefused = false;
  // Its rows may be of another epoch, or have holes.
  asksAgain = false;
  askedAt = -Infinity;
  // The pieces that are due before it is live.
  due = new Set();

  constructor(name, epoch, its) {
    this.rows = new Replica(name, epoch);
    this.#its = its;
  }

  get #topics() {
    return [...this.#topicsById.values()];
  }

  get isFollowed() {
    return this.#topicsById.size > 0;
  }

  get isAsking() {
    return this.asksAgain || this.due.size > 0;
  }

  get isCurrent() {
    return !this.isLost && !this.isAsking;
  }

  add(subscription, keys) {
    const keysById = new Map(keys === '*' ? [[ALL, keys]] : keys.map((key) => [String(key), key]));
    for (const [id, key] of keysById) {
      // `piece`: the one in which it was asked for on this connection.
      const topic = this.#topicsById.get(id) ?? { id, key, subscriptions: new Set(), piece: null, isShown: false };
      this.#topicsById.set(id, topic);
      topic.subscriptions.add(subscription);
      subscription.topics.push(topic);
      this.#touched.add(topic);
    }
  }

  remove(subscription) {
    for (const topic of subscription.topics) {
      topic.subscriptions.delete(subscription);
      this.#touched.add(topic);
    }
  }

  end() {
    for (const subscription of subscribers(this.#topics)) subscription.end();
    this.rows.owed().forEach((key) => this.rows.forget(String(key)));
  }

  followers(key) {
    return this.subscribers([String(key), ALL]);
  }

  subscribers(ids) {
    return subscribers(ids.map((id) => this.#topicsById.get(id)).filter(Boolean));
  }

  // Returns the changes of followed rows.
  take(frame) {
    const { key, product, absent, versions } = frame;
    const isFollowed = (each) => this.#topicsById.has(ALL) || this.#topicsById.has(String(each));
    this.isTold = true;
    if (!absent) return isFollowed(product ? product.productId : key) ? this.rows.apply(frame) : [];
    return absent.flatMap((each, place) => (isFollowed(each) ? this.rows.absent(each, versions?.[place]) : []));
  }

  known({ topics }) {
    const entries = isAll(topics) ? [...this.rows.entries()] : topics.map(({ id }) => this.rows.get(id));
    return keysOf(entries.filter(Boolean));
  }

  lost() {
    this.isLost = this.asksAgain = false;
    this.due.clear();
    this.#topicsById.forEach(unask);
  }

  // Takes off what nobody follows. Returns the pieces that say so.
  changes(isOpen) {
    let touched = [...this.#touched];
    this.#touched.clear();
    const ended = touched.filter(({ id, subscriptions }) => subscriptions.size === 0 && this.#topicsById.delete(id));
    const isEnd = ended.some(({ id }) => id === ALL);
    if (isEnd) {
      // The end of '*' ends every other too.
      this.rows.forgetAllBut(this.#topicsById);
      touched = this.#topics;
      touched.forEach(unask);
    } else if (!this.#topicsById.has(ALL)) {
      for (const { id } of ended) this.rows.forget(id);
    }
    if (!isOpen) return [];
    const lists = isEnd ? ['*'] : this.#cut(ended.filter(({ piece }) => piece)).map(keysOf);
    const ends = lists.map((keys) => ({ command: { command: 'unsubscribe', table: this.rows.table, keys } }));
    return [...ends, ...this.#asks(touched)];
  }

  #cut(topics) {
    return cut(topics, this.#its.messageBytes);
  }

  #asks(topics) {
    const unasked = topics.filter(({ piece, subscriptions }) => !piece && subscriptions.size > 0);
    const all = unasked.filter(({ id }) => id === ALL).map((topic) => [topic]);
    const lists = this.#cut(unasked.filter(({ id }) => id !== ALL));
    return [...all, ...lists].map((list) => this.#piece(list));
  }

  #piece(topics) {
    const piece = { table: this, topics, command: subscribing(this.rows, isAll(topics) ? '*' : keysOf(topics)) };
    for (const topic of topics) topic.piece = piece;
    if (isAll(topics)) this.rows.begin();
    return piece;
  }

  asksForAll() {
    this.asksAgain = this.isTold = this.isRefused = false;
    this.#topicsById.forEach(unask);
    this.due = new Set(this.#asks(this.#topics));
    return [...this.due];
  }

  // Asks for a piece anew, in so many parts.
  asksAnew(piece, parts) {
    const topics = current(piece);
    topics.forEach(unask);
    const length = Math.ceil(topics.length / parts);
    const pieces = [0, length].flatMap((from) => this.#asks(topics.slice(from, from + length)));
    if (this.due.delete(piece)) for (const each of pieces) this.due.add(each);
    return pieces;
  }

  // What is shown of it is old.
  refused(piece) {
    if (!current(piece).some(({ isShown }) => isShown)) this.due.delete(piece);
  }

  // All of it has come.
  answered(piece, refusal) {
    const topics = current(piece);
    this.due.delete(piece);
    // It is refused as a whole.
    piece.isAnswered = !(refusal && isAll(topics));
    for (const topic of topics) topic.isShown = true;
    const complete = subscribers(topics).filter(({ isComplete }) => isComplete);
    return { changes: isAll(topics) ? this.rows.complete() : [], complete };
  }
}

export function subscribers(topics) {
  return [...new Set(topics.flatMap((topic) => [...topic.subscriptions]))];
}

function isAll(topics) {
  return topics[0]?.id === ALL;
}

function keysOf(topics) {
  return topics.map(({ key }) => key);
}

function current(piece) {
  return piece.topics.filter((topic) => topic.piece === piece);
}

function unask(topic) {
  topic.piece = null;
}
