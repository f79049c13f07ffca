// What one socket received, and what it should have: pure, so that every kind of socket can use it.
//
// - The versions of a product only grow.
// - The sequence numbers of a product are without a gap, from the first change that was written after the server said
//   that the socket is subscribed. Gaps may be excused by `skipped` notices, one for one.
// - The last change of every product arrives.

import { stampOf } from './stamp.js';

export class Ledger {
  received = 0;
  disordered = 0;
  gaps = 0;
  skipped = 0;
  subscriptionsById = new Map();

  // `versionsById` may come from the socket that this one replaces: a reader that comes back does not see older
  // versions than before. A reader that asks for states may be told of skipped changes that lie before its first one.
  constructor(versionsById = new Map(), { asksStates = false } = {}) {
    this.versionsById = versionsById;
    this.asksStates = asksStates;
  }

  // A command to subscribe goes out.
  asked(ids, at) {
    for (const id of ids) {
      this.subscriptionsById.set(id, { askedAt: at, acceptedAt: null, sequence: null, last: false });
    }
  }

  // The server has accepted it.
  accepted(ids, at) {
    for (const id of ids) {
      const subscription = this.subscriptionsById.get(id);
      if (subscription) subscription.acceptedAt = at;
    }
  }

  // A command to unsubscribe goes out. What is under way may still come; only its order counts.
  released(ids) {
    for (const id of ids) this.subscriptionsById.delete(id);
  }

  // A change came in; when it was sent, or null where somebody else wrote it.
  change({ version, product }) {
    this.received += 1;
    const before = this.versionsById.get(product.productId) ?? -1;
    if (version <= before) this.disordered += 1;
    this.versionsById.set(product.productId, Math.max(version, before));
    const stamp = stampOf(product);
    if (stamp === null) return null;
    const subscription = this.subscriptionsById.get(product.productId);
    if (subscription) this.#follow(subscription, stamp);
    return stamp.sentAt;
  }

  #follow(subscription, { sequence, sentAt, previousAt, last }) {
    subscription.last ||= last;
    if (subscription.sequence !== null) {
      this.gaps += Math.max(0, sequence - subscription.sequence - 1);
    } else if (sentAt < subscription.askedAt) {
      return; // Left over from an earlier subscription of this socket, or written while this one was under way.
    } else if (subscription.acceptedAt !== null && previousAt > subscription.acceptedAt) {
      this.gaps += 1; // At least the change before this one should have come.
    }
    subscription.sequence = sequence;
  }

  // Versions of another epoch mean nothing.
  forgetVersions() {
    this.versionsById.clear();
  }

  // How many of these products, by their versions in the store, this reader knows otherwise, of those that it has.
  differences(storedVersionsById) {
    const differs = (id) => (this.versionsById.get(id) ?? 0) !== (storedVersionsById.get(id) ?? 0);
    return [...this.subscriptionsById.keys()].filter(differs).length;
  }

  skip(changes) {
    this.skipped += changes;
  }

  // Whether a change of every product was seen.
  get hasBegun() {
    return this.#every((subscription) => subscription.sequence !== null);
  }

  // Whether nothing more is to come.
  get isComplete() {
    return this.#every((subscription) => subscription.last) && this.gaps <= this.skipped;
  }

  // How many changes are not accounted for; of a socket that stayed to the end, `withLast`.
  missing(withLast) {
    const lasts = [...this.subscriptionsById.values()].filter((subscription) => !subscription.last).length;
    const unexplained = this.gaps - this.skipped;
    return (this.asksStates ? Math.max(0, unexplained) : Math.abs(unexplained)) + (withLast ? lasts : 0);
  }

  #every(predicate) {
    for (const subscription of this.subscriptionsById.values()) {
      if (!predicate(subscription)) return false;
    }
    return this.subscriptionsById.size > 0;
  }
}
