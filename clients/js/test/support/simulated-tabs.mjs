/** The tabs of one browser on virtual time: their locks and channels, which work only while a tab lives and isn't frozen. */

export class SimulatedBrowser {
  #locks = new Map();
  #channels = new Set();

  constructor(clock, random) {
    Object.assign(this, { clock, random });
  }

  tab() {
    const browser = this;
    const tab = { alive: true, frozen: false, held: new Set() };
    tab.options = {
      locks: { request: (name, { signal }, run) => browser.#request(tab, name, signal, run) },
      BroadcastChannel: class {
        onmessage = null;
        constructor(name) {
          Object.assign(this, { name, tab, inbox: [] });
          browser.#channels.add(this);
        }
        postMessage(data) {
          browser.#post(this, structuredClone(data));
        }
        close() {
          browser.#channels.delete(this);
        }
      },
    };
    return tab;
  }

  /** The tab is gone without a last message: its locks are free, and its channels are dead. */
  kill(tab) {
    tab.alive = false;
    for (const channel of [...this.#channels]) if (channel.tab === tab) this.#channels.delete(channel);
    for (const queue of this.#locks.values()) for (const entry of [...queue]) if (entry.tab === tab) this.#leave(queue, entry);
  }

  #request(tab, name, signal, run) {
    return new Promise((resolve, reject) => {
      const queue = this.#locks.get(name) ?? [];
      this.#locks.set(name, queue);
      const entry = { tab, run, signal, resolve, reject, held: false };
      signal?.addEventListener("abort", () => {
        if (entry.held) return;
        reject(signal.reason);
        this.#leave(queue, entry);
      });
      queue.push(entry);
      this.#grant(queue);
    });
  }

  #grant(queue) {
    const [entry] = queue;
    if (!entry || entry.held) return;
    entry.held = true;
    const { signal } = entry;
    this.clock.setTimeout(() => {
      if (!entry.tab.alive) return;
      if (signal?.aborted) {
        this.#leave(queue, entry);
        return entry.reject(signal.reason);
      }
      entry.run().then((value) => (this.#leave(queue, entry), entry.resolve(value)));
    }, 1);
  }

  #leave(queue, entry) {
    const at = queue.indexOf(entry);
    if (at >= 0) queue.splice(at, 1);
    this.#grant(queue);
  }

  #post(from, data) {
    if (!from.tab.alive || !this.#channels.has(from)) return;
    for (const to of this.#channels) {
      if (to !== from && to.name === from.name) this.#deliver(to, data);
    }
  }

  /** In order, a moment later. A frozen tab hears it when it thaws. */
  #deliver(to, data) {
    to.arrives_at = Math.max((to.arrives_at ?? 0) + 0.001, this.clock.now() + this.random() * 3);
    this.clock.setTimeout(() => {
      to.inbox.push(structuredClone(data));
      this.#drain(to);
    }, to.arrives_at - this.clock.now());
  }

  #drain(to) {
    while (to.inbox.length && !to.tab.frozen && this.#channels.has(to)) to.onmessage?.({ data: to.inbox.shift() });
  }

  freeze(tab) {
    tab.frozen = true;
    tab.thawed = [];
  }

  thaw(tab) {
    tab.frozen = false;
    for (const run of tab.thawed.splice(0)) run();
    for (const channel of [...this.#channels]) if (channel.tab === tab) this.#drain(channel);
  }
}
