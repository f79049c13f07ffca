// The rows that were told by their id alone, since they are too large for a message: read one by one, until each is
// there.

const PAUSE_MS_MIN = 1000;
const PAUSE_MS_MAX = 30_000;

export class Reads {
  #replica;
  #readRow;
  #pause;
  #isReading = false;

  // `readRow(id)` resolves to the row in the form of a message; `pause(ms)` after that time.
  constructor(replica, readRow, pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))) {
    this.#replica = replica;
    this.#readRow = readRow;
    this.#pause = pause;
  }

  // Reads what is owed, if that is not being done already.
  async start() {
    if (this.#isReading) return;
    this.#isReading = true;
    let failures = 0;
    for (let ids = this.#replica.owed(); ids.length > 0; ids = this.#replica.owed()) {
      for (const id of ids) await this.#read(id);
      const isLeft = this.#replica.owed().some((id) => ids.includes(id));
      failures = isLeft ? failures + 1 : 0;
      if (isLeft) await this.#pause(Math.min(PAUSE_MS_MIN * 2 ** (failures - 1), PAUSE_MS_MAX));
    }
    this.#isReading = false;
  }

  async #read(id) {
    try {
      this.#replica.fill(await this.#readRow(id));
    } catch {
      // It is read again; if it is gone, the server says so.
    }
  }
}
