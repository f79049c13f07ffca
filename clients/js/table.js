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
  // Pieces due before it is live.
  due = new Set();
  // Ends without a reply.
  #ends = 0;

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
    for (const key of this.rows.owed()) this.rows.forget(key);
  }

  followers(key) {
    return this.subscribers([String(key), ALL]);
  }

  subscribers(ids) {
    return subscribers(this.#topicsOf(ids));
  }

  #topicsOf(ids) {
    return ids.map((id) => this.#topicsById.get(id)).filter(Boolean);
  }

  // Returns the changes of followed rows.
  take(frame) {
    const { key, product, absent, versions } = frame;
    this.isTold = true;
    if (!absent) return this.#isNamed(product ? product.productId : key) ? this.rows.apply(frame) : [];
    return absent.flatMap((each, place) => (this.#isNamed(each) ? this.rows.absent(each, versions?.[place]) : []));
  }

  // Returns false if nobody follows it.
  #isNamed(key) {
    const topics = this.#topicsOf([String(key), ALL]);
    for (const { piece } of topics) piece?.named?.add(String(key));
    return topics.length > 0;
  }

  known({ topics }) {
    return keysOf([...this.rows.entries(named(topics))]);
  }

  lost() {
    this.isLost = this.asksAgain = false;
    this.due.clear();
    this.#ends = 0;
    this.#topics.forEach(unask);
  }

  // Takes off what nobody follows. Returns the pieces that say so.
  changes(isOpen) {
    let touched = [...this.#touched];
    this.#touched.clear();
    const ended = touched.filter(({ id, subscriptions }) => subscriptions.size === 0 && this.#topicsById.delete(id));
    const isEnd = ended.some(isOfAll);
    const ends = this.#pieces(ended.filter(isEnd ? isOfAll : ({ piece }) => piece), true);
    ended.forEach(unask);
    if (isEnd) {
      // The end of '*' ends every other too.
      this.rows.forgetAllBut(this.#topicsById);
      touched = this.#topics;
      touched.forEach(unask);
    } else if (!this.#topicsById.has(ALL)) {
      for (const { id } of ended) this.rows.forget(id);
    }
    if (!isOpen) return [];
    this.#ends += ends.length;
    return [...ends, ...this.#asks(touched)];
  }

  // Returns null while all rows wait: the last words of what is ended would count as named.
  command(piece) {
    const keys = named(piece.topics);
    if (piece.isEnd) return { command: 'unsubscribe', table: this.rows.table, keys };
    if (keys === '*' && this.#ends > 0) return null;
    piece.named = new Set();
    return (piece.command = subscribing(this.rows, keys, piece.isWhole));
  }

  ended() {
    this.#ends -= 1;
    const all = this.#topicsById.get(ALL)?.piece;
    return all && !all.command ? [all] : [];
  }

  #pieces(topics, isEnd) {
    const lists = [topics.filter(isOfAll), ...cut(topics.filter((topic) => !isOfAll(topic)), this.#its.messageBytes)];
    return lists.filter((list) => list.length > 0).map((list) => ({ table: this, topics: list, isEnd }));
  }

  #asks(topics) {
    const pieces = this.#pieces(topics.filter(({ piece, subscriptions }) => !piece && subscriptions.size > 0));
    for (const piece of pieces) for (const topic of piece.topics) topic.piece = piece;
    return pieces;
  }

  asksForAll() {
    this.askedAt = this.#its.now();
    this.asksAgain = this.isTold = this.isRefused = false;
    this.#topics.forEach(unask);
    this.due = new Set(this.#asks(this.#topics));
    return [...this.due];
  }

  asksAnew(piece, parts, isWhole) {
    const topics = current(piece);
    topics.forEach(unask);
    const first = topics.splice(0, Math.ceil(topics.length / parts));
    const pieces = [first, topics].flatMap((each) => this.#asks(each));
    for (const each of pieces) each.isWhole = isWhole;
    if (this.due.delete(piece) || isWhole) for (const each of pieces) this.due.add(each);
    return pieces;
  }

  // What is shown is old.
  refused(piece) {
    if (!current(piece).some(({ isShown }) => isShown)) this.due.delete(piece);
  }

  answered(piece, refusal) {
    const topics = current(piece);
    const isAll = topics.some(isOfAll);
    const asked = isAll ? [...this.rows.entries()] : refusal ? topics : [];
    const unnamed = keysOf(asked).filter((key) => !piece.named.has(String(key)));
    piece.named = null;
    this.due.delete(piece);
    this.isTold = true;
    // It is refused as a whole.
    piece.isAnswered = !(refusal && isAll);
    for (const topic of topics) topic.isShown = true;
    const complete = subscribers(topics).filter(({ isComplete }) => isComplete);
    return { changes: unnamed.flatMap((key) => this.rows.absent(key)), complete };
  }
}

export function subscribers(topics) {
  return [...new Set(topics.flatMap((topic) => [...topic.subscriptions]))];
}

function isOfAll({ id }) {
  return id === ALL;
}

function named(topics) {
  return topics.some(isOfAll) ? '*' : keysOf(topics);
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
