// The changes per second, over a sliding window. It counts in slots of a ring, so that its memory does not grow with
// the rate.

const SLOT_MS = 250;
const WINDOW_SLOTS = 12;

export class RateMeter {
  #counts = new Array(WINDOW_SLOTS).fill(0);
  #slot = null;

  add(nowMs, count = 1) {
    this.#advance(nowMs);
    this.#counts[this.#slot % WINDOW_SLOTS] += count;
  }

  perSecond(nowMs) {
    this.#advance(nowMs);
    const total = this.#counts.reduce((sum, count) => sum + count, 0);
    return total / ((WINDOW_SLOTS * SLOT_MS) / 1000);
  }

  // Empties the slots that the time since the last call has passed.
  #advance(nowMs) {
    const slot = Math.floor(nowMs / SLOT_MS);
    const passed = this.#slot === null ? WINDOW_SLOTS : Math.min(slot - this.#slot, WINDOW_SLOTS);
    for (let i = 0; i < passed; i += 1) this.#counts[(slot - i) % WINDOW_SLOTS] = 0;
    if (passed > 0) this.#slot = slot;
  }
}
