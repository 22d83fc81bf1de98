/** The broker's side of streams: one reader of an SSE response, or a WebSocket with many. */
import { matches } from "../../.build/topics.js";

/** An SSE block that says only where the reader stands. */
const sign = (event, cursor) => `id: ${cursor}\nevent: tailwire.${event}\ndata: ${JSON.stringify({ kind: "heartbeat", cursor })}\n\n`;

const HEARTBEAT = 15_000;
/** Messages that a reader gets while it catches up, before others have their turn. */
const TURN = 3;

/** What both have in common: heartbeats, bye, and being part of the broker. */
class Session {
  closed = false;

  constructor(network, send, end) {
    Object.assign(this, { network, broker: network.broker, write: send, end });
  }

  attach() {
    this.detach = this.broker.attach(this);
    this.#beat();
  }

  send(line) {
    this.sent_at = this.network.clock.now();
    this.write(line);
  }

  #beat() {
    this.network.later(HEARTBEAT, () => {
      if (this.closed) return;
      if (this.network.clock.now() - (this.sent_at ?? 0) >= HEARTBEAT) this.heartbeat();
      this.#beat();
    });
  }

  bye() {
    if (this.closed) return;
    this.send(this.encode({ kind: "bye", retry_after_ms: 3000, reason: "drain" }));
    this.close();
    this.end();
  }

  close() {
    this.closed = true;
    this.detach?.();
  }
}

/** Reads a filter from a place, a few messages a turn, until it stands at the tail. */
class Reader {
  constructor(session, terms, ask, sub) {
    Object.assign(this, { session, terms, sub, live: false });
    const { broker } = session;
    this.position = broker.start(terms, ask);
    this.gap = broker.gap(terms, ask.after, ask.gap, this.position);
  }

  run() {
    const { session } = this;
    if (session.closed || this.closed) return;
    if (this.gap) {
      session.send(session.encode({ kind: "gap", ...this.gap }, this.sub));
      this.position = this.gap.from;
      this.gap = undefined;
    }
    for (const message of session.broker.select(this.terms, this.position, TURN)) {
      session.send(session.encode({ kind: "message", ...message }, this.sub));
      this.position = message.cursor;
    }
    if (session.broker.select(this.terms, this.position, 1).length) return session.network.later(2, () => this.run());
    this.position = session.broker.cursor();
    this.live = true;
    session.send(session.encode({ kind: "caught_up", cursor: this.position }, this.sub));
  }

  wants(message) {
    return this.live && this.terms.some((term) => matches(term, message.topic));
  }
}

export class BrokerStream extends Session {
  constructor(network, query, send, end) {
    super(network, send, end);
    const ask = { after: query.get("after"), gap: query.get("gap") };
    this.reader = new Reader(this, query.getAll("topic"), ask);
  }

  encode(line) {
    const id = line.kind === "gap" || line.kind === "bye" ? "" : `id: ${line.cursor}\n`;
    return `${id}event: tailwire.${line.kind}\ndata: ${JSON.stringify(line)}\n\n`;
  }

  open() {
    this.attach();
    this.send(`retry: 2000\n${sign("open", this.reader.position)}`);
    this.reader.run();
  }

  heartbeat() {
    this.send(sign("heartbeat", this.reader.live ? this.broker.cursor() : this.reader.position));
  }

  commit(message) {
    if (this.reader.wants(message)) this.send(this.encode({ kind: "message", ...message }));
  }
}

export class BrokerSocket extends Session {
  readers = new Map();

  encode(line, sub) {
    return sub === undefined ? line : { sub, ...line };
  }

  open() {
    this.attach();
    this.send({ kind: "welcome", epoch: this.broker.cursor().slice(0, 8), heartbeat_ms: HEARTBEAT, limits: {} });
  }

  receive(line) {
    const { id, kind } = line;
    if (kind === "subscribe") {
      const reader = new Reader(this, line.topic, { after: line.after ?? "latest", last: line.last, gap: line.gap }, id);
      this.readers.set(id, reader);
      this.send({ kind: "ok", id, cursor: reader.position });
      this.network.later(1, () => reader.run());
    } else if (kind === "unsubscribe") {
      this.readers.get(line.sub).closed = true;
      this.readers.delete(line.sub);
      this.send({ kind: "ok", id });
    } else if (kind === "publish") {
      this.send({ kind: "ok", id, receipts: this.broker.publishAll(line.messages, line.idempotency_key) });
    }
  }

  heartbeat() {
    this.send({ kind: "heartbeat", cursor: this.broker.cursor() });
  }

  commit(message) {
    if ([...this.readers.values()].some((reader) => reader.wants(message))) this.send({ kind: "message", ...message });
  }
}
