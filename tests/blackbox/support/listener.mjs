// What a listener heard and nobody has looked at yet: an async iterator with a bound on the wait for each item.

/** How long the next item may take. A bound for failure, not a wait. */
const PATIENCE_MS = 20_000;

export class Listener {
  /** The cursor that resumes after everything that was taken. */
  cursor = undefined;
  /** Set by the transport: ends the connection. */
  hangUp = () => {};

  #items = [];
  #taker = undefined;
  #end = undefined;

  constructor() {
    this.ready = new Promise((resolve, reject) => {
      this.opened = resolve;
      this.refused = reject;
    });
    this.ready.catch(() => {});
  }

  push(item) {
    this.#items.push(item);
    this.#wake();
  }

  /** Nothing more comes; with an error, taking fails. */
  end(error) {
    this.#end ??= { error };
    if (error) this.refused(error);
    this.#wake();
  }

  get ended() {
    return this.#end !== undefined;
  }

  /** The next item, or undefined after the end. */
  async next(ms = PATIENCE_MS) {
    if (this.#items.length === 0 && !this.#end) {
      let timer;
      await new Promise((resolve, reject) => {
        this.#taker = resolve;
        timer = setTimeout(() => reject(new Error(`nothing was heard for ${ms} ms, at ${this.cursor}`)), ms);
      }).finally(() => clearTimeout(timer));
    }
    if (this.#items.length === 0) {
      if (this.#end.error) throw this.#end.error;
      return undefined;
    }
    const item = this.#items.shift();
    if (item.cursor) this.cursor = item.cursor;
    return item;
  }

  async *[Symbol.asyncIterator]() {
    for (let item = await this.next(); item; item = await this.next()) yield item;
  }

  /** The next item of one of these kinds; what comes before it is dropped. */
  async until(...kinds) {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      const item = await this.next(Math.max(end - performance.now(), 0));
      if (!item) throw new Error(`the stream ended before a ${kinds.join(' or ')}`);
      if (kinds.includes(item.kind)) return item;
    }
  }

  /** The next `count` messages. A gap or a bye among them is a failure. */
  async messages(count) {
    const messages = [];
    // Signs of life don't put off the end of the wait.
    let end = performance.now() + PATIENCE_MS;
    while (messages.length < count) {
      const item = await this.next(Math.max(end - performance.now(), 0));
      if (!item) throw new Error(`the stream ended after ${messages.length} of ${count} messages`);
      if (item.kind === 'message') {
        messages.push(item);
        end = performance.now() + PATIENCE_MS;
      } else if (item.kind === 'gap' || item.kind === 'bye') throw new Error(`not a message: ${JSON.stringify(item)}`);
    }
    return messages;
  }

  close() {
    this.hangUp();
    this.end();
  }

  #wake() {
    this.#taker?.();
    this.#taker = undefined;
  }
}
