/** A broker in memory, as the protocol describes it: a log, gaps, pages, readers. No network; that is beside it. */
import { matches } from "../../.build/topics.js";

const DIGITS = "0123456789abcdefghijklmnopqrstuv";
const digits = (value, width) => (width ? digits(Math.floor(value / 32), width - 1) + DIGITS[value % 32] : "");

export class SimulatedBroker {
  log = [];
  down = false;
  #position = 0;
  #epoch = 100_000;
  #known = new Set();
  #trimmed = new Map();
  #keys = new Map();
  #readers = new Set();
  #clock;

  constructor(clock) {
    this.#clock = clock;
    this.#known.add(this.#epoch);
  }

  cursor(position = this.#position, epoch = this.#epoch) {
    return `${digits(epoch, 8)}-${digits(position, 11)}`;
  }

  /** A batch: stored whole, once per key. */
  publishAll(messages, key) {
    if (!this.#keys.has(key)) this.#keys.set(key, messages.map(({ topic, data }) => this.publish(topic, data)));
    return this.#keys.get(key);
  }

  publish(topic, data) {
    const message = { cursor: this.cursor(++this.#position), topic, time: new Date(this.#clock.now()).toISOString(), type: "application/json", data };
    Object.defineProperty(message, "trimmed_at", { value: Infinity, writable: true, enumerable: false });
    this.log.push(message);
    const receipt = { cursor: message.cursor, topic, time: message.time };
    for (const reader of [...this.#readers]) reader.commit(message);
    return receipt;
  }

  /** Retention takes all messages of a topic but the newest few. */
  trim(topic, keep) {
    const gone = this.log.filter((message) => message.topic === topic).slice(0, -keep || undefined);
    if (!gone.length) return;
    for (const message of gone) message.trimmed_at = this.#clock.now();
    this.#trimmed.set(topic, gone.at(-1).cursor);
    this.log = this.log.filter((message) => !gone.includes(message));
  }

  /** A clean restart: the log stays, a new epoch begins. */
  restart() {
    this.#known.add(++this.#epoch);
  }

  /** Another log altogether, begun later (or, as on another machine, earlier). */
  wipe(earlier) {
    this.log = [];
    this.#trimmed.clear();
    this.#keys.clear();
    this.#epoch += earlier ? -50 : 1;
    this.#position = 0;
    this.#known = new Set([this.#epoch]);
  }

  attach(reader) {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  /** Where reading begins, as a cursor. */
  start(terms, { after, last }) {
    if (last) {
      const found = this.select(terms, "").slice(-last);
      return found.length < last ? this.cursor(0, Math.min(...this.#known)) : this.#before(found[0].cursor);
    }
    if (after === "latest") return this.cursor();
    return after === "earliest" || !after ? this.cursor(0, Math.min(...this.#known)) : after;
  }

  #before(cursor) {
    const index = this.log.findIndex((message) => message.cursor === cursor);
    return index > 0 ? this.log[index - 1].cursor : this.cursor(0, Math.min(...this.#known));
  }

  /** The gap of a reader from here, if any. */
  gap(terms, asked, known, cursor) {
    if (!asked || asked === "earliest" || asked === "latest") return undefined;
    const epoch = parseInt(cursor.slice(0, 8), 32);
    if (!this.#known.has(epoch)) {
      const from = this.log.length ? this.#before(this.log[0].cursor) : this.cursor();
      return { from, to: from, reason: "epoch" };
    }
    const lost = [...this.#trimmed].filter(([topic]) => terms.some((term) => matches(term, topic))).map(([, upto]) => upto);
    const to = lost.sort().at(-1);
    return to && to > cursor && !(known && known >= to) ? { from: cursor, to, reason: "retention" } : undefined;
  }

  select(terms, after, limit = Infinity) {
    const found = [];
    for (const message of this.log) {
      if (message.cursor > after && terms.some((term) => matches(term, message.topic))) found.push(message);
      if (found.length >= limit) break;
    }
    return found;
  }

  /** The answer to a page request, as status and body. */
  page(query) {
    const terms = query.getAll("topic");
    const asked = query.get("after");
    let cursor = this.start(terms, { after: asked, last: Number(query.get("last")) || undefined });
    const gap = this.gap(terms, asked, query.get("gap"), cursor);
    if (gap) return { status: 410, body: { status: 410, code: "gap", title: "gone", ...gap } };
    const limit = Number(query.get("limit") ?? 100);
    const messages = this.select(terms, cursor, limit);
    const more = messages.length === limit && this.select(terms, messages.at(-1).cursor, 1).length > 0;
    cursor = messages.at(-1)?.cursor ?? cursor;
    if (messages.length) return { status: 200, body: { messages, cursor, more } };
    return { status: 202, body: { messages, cursor, more, retry_after_ms: 1500 } };
  }
}
