// A table of a client: its rows, and its topics, which are what subscribers follow: a key each, or '*'.

import { cut, subscribing, subscribingToAll, unsubscribing } from './pieces.js';
import { Replica } from './replica.js';

const ALL = Symbol('*');

export class Table {
  #its;
  #topicsById = new Map();
  #touched = new Set();

  isLost = false;
  isTold = false;
  // What was told may be of another epoch, or have holes.
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
    for (const [id, key] of keysById) this.#join(id, key, subscription);
  }

  remove(subscription) {
    for (const topic of subscription.topics) {
      topic.subscriptions.delete(subscription);
      this.#touched.add(topic);
    }
  }

  end() {
    for (const { subscriptions } of this.#topics) for (const each of subscriptions) each.end();
    this.rows.owed().forEach((key) => this.rows.forget(String(key)));
  }

  #join(id, key, subscription) {
    let topic = this.#topicsById.get(id);
    // `piece`: the one in which it was asked for on this connection.
    if (!topic) this.#topicsById.set(id, (topic = { id, key, subscriptions: new Set(), piece: null, isAnswered: false, isShown: false }));
    topic.subscriptions.add(subscription);
    subscription.topics.push(topic);
    if (!topic.isAnswered) subscription.left += 1;
    this.#touched.add(topic);
  }

  followers(key) {
    return [String(key), ALL].flatMap((id) => [...(this.#topicsById.get(id)?.subscriptions ?? [])]);
  }

  // Returns the changes of those rows of a frame that are followed still.
  take(frame) {
    const { key, product, absent, versions } = frame;
    const isFollowed = (each) => this.#topicsById.has(ALL) || this.#topicsById.has(String(each));
    this.isTold = true;
    if (!absent) return isFollowed(product ? product.productId : key) ? this.rows.apply(frame) : [];
    return absent.flatMap((each, place) => (isFollowed(each) ? this.rows.absent(each, versions?.[place]) : []));
  }

  known({ topics }) {
    const entries = topics[0]?.id === ALL ? [...this.rows.entries()] : topics.map(({ id }) => this.rows.get(id));
    return keysOf(entries.filter(Boolean));
  }

  lost() {
    this.isLost = this.asksAgain = false;
    this.due.clear();
    this.#topicsById.forEach(unanswered);
  }

  // Takes off what nobody follows any more. Returns the pieces that tell the server.
  changes(isOpen) {
    let touched = [...this.#touched];
    this.#touched.clear();
    const ended = touched.filter(({ id, subscriptions }) => subscriptions.size === 0 && this.#topicsById.delete(id));
    const isAll = ended.some(({ id }) => id === ALL);
    if (isAll) {
      // The end of '*' ends every other subscription too.
      this.rows.forgetAllBut(this.#topicsById);
      touched = this.#topics;
      touched.forEach(unanswered);
    } else if (!this.#topicsById.has(ALL)) {
      for (const { id } of ended) this.rows.forget(id);
    }
    if (!isOpen) return [];
    const lists = isAll ? ['*'] : this.#cut(ended.filter(({ piece }) => piece)).map(keysOf);
    return [...lists.map((keys) => ({ command: unsubscribing(this.rows, keys) })), ...this.#asks(touched)];
  }

  #cut(topics) {
    return cut(topics, this.#its.messageBytes);
  }

  #asks(topics) {
    const unasked = topics.filter(({ piece, subscriptions }) => !piece && subscriptions.size > 0);
    const pieces = this.#cut(unasked.filter(({ id }) => id !== ALL)).map((some) => {
      return { table: this, topics: some, command: subscribing(this.rows, keysOf(some)) };
    });
    const all = unasked.filter(({ id }) => id === ALL);
    if (all.length > 0) {
      pieces.unshift({ table: this, topics: all, command: subscribingToAll(this.rows) });
      this.rows.begin();
    }
    for (const piece of pieces) for (const topic of piece.topics) topic.piece = piece;
    return pieces;
  }

  asksForAll() {
    this.asksAgain = this.isTold = false;
    this.#topicsById.forEach(unanswered);
    this.due = new Set(this.#asks(this.#topics));
    return [...this.due];
  }

  // Asks for a piece anew, in so many parts.
  asksAnew(piece, parts) {
    const topics = current(piece);
    topics.forEach(unanswered);
    const length = Math.ceil(topics.length / parts);
    const pieces = [0, length].flatMap((from) => this.#asks(topics.slice(from, from + length)));
    if (this.due.delete(piece)) for (const each of pieces) this.due.add(each);
    return pieces;
  }

  // What is shown of a piece that is refused is old.
  refused(piece) {
    if (!current(piece).some(({ isShown }) => isShown)) this.due.delete(piece);
  }

  // Takes the word that all of a piece has come.
  answered(piece) {
    const topics = current(piece);
    const complete = [];
    this.due.delete(piece);
    for (const topic of topics) {
      topic.isAnswered = topic.isShown = true;
      for (const subscription of topic.subscriptions) if ((subscription.left -= 1) === 0) complete.push(subscription);
    }
    return { changes: topics[0]?.id === ALL ? this.rows.complete() : [], complete };
  }
}

function keysOf(topics) {
  return topics.map(({ key }) => key);
}

function current(piece) {
  return piece.topics.filter((topic) => topic.piece === piece);
}

function unanswered(topic) {
  topic.piece = null;
  if (!topic.isAnswered) return;
  topic.isAnswered = false;
  for (const subscription of topic.subscriptions) subscription.left += 1;
}
