/** Virtual time: timers run when the test says so, in order, and promises settle in between. */
export class VirtualClock {
  #now = 1_000_000_000;
  #timers = new Map();
  #ids = 0;

  now = () => this.#now;
  date = () => this.#now + this.set_ms;
  /** By how much the wall clock was set. */
  set_ms = 0;
  setTimeout = (run, ms) => {
    const id = ++this.#ids;
    this.#timers.set(id, { at: this.#now + Math.max(0, ms), run, id });
    return id;
  };
  clearTimeout = (id) => void this.#timers.delete(id);

  /** Runs everything that is due within so many milliseconds. */
  async advance(ms) {
    const until = this.#now + ms;
    await settle();
    for (;;) {
      let next;
      for (const timer of this.#timers.values()) if (!next || timer.at < next.at || (timer.at === next.at && timer.id < next.id)) next = timer;
      if (!next || next.at > until) break;
      this.#timers.delete(next.id);
      this.#now = Math.max(this.#now, next.at);
      next.run();
      await settle();
    }
    this.#now = until;
  }
}

/** All promises that can settle without a timer have settled. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Reproducible chance (mulberry32). */
export function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
