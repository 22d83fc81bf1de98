/** One WebSocket for all subscriptions, each by its own id, and for requests. */
import { sleep } from "../backoff.js";
import { NetworkError, problemError, type Problem } from "../errors.js";
import { refused } from "../http.js";
import * as limits from "../limits.js";
import type { Feed } from "../subscription.js";
import { parseLine, type Line } from "../wire.js";
import { Link, type Surroundings, type Tell } from "./link.js";

interface Entry {
  id: number;
  feed: Feed;
  lap: number;
  answered: boolean;
}

interface Pending {
  ok: (line: Line) => void;
  failed: (error: unknown) => void;
}

/** Lines without a tag are for those that caught up; these are `carried`. */
export class WebSocketLink extends Link {
  #socket: WebSocket | undefined;
  readonly #pending = new Map<number, Pending>();
  readonly #entries = new Map<Feed, Entry>();
  #wanted: readonly Feed[];
  #ids = 0;
  #ready = false;
  #up = false;

  constructor(feeds: readonly Feed[], around: Surroundings, tell: Tell) {
    super(around, tell);
    this.#wanted = feeds;
    // Where a policy of the page forbids it, connecting throws; the hub shall have the link by then.
    Promise.resolve()
      .then(() => this.closed || this.#connect())
      .catch((error: unknown) => this.failed(error, []));
  }

  #connect(): void {
    const { WebSocket, http } = this.around;
    const socket = new WebSocket!(http.url("stream").replace(/^http/, "ws"), "tailwire.v1");
    this.#socket = socket;
    let why = "the handshake failed";
    socket.onopen = () => {
      why = "it was closed";
      if (!this.closed) this.tell({ kind: "opened" });
    };
    // Another tab gives lines as they are.
    socket.onmessage = ({ data }) => this.#receive(typeof data === "string" ? parseLine(data) : (data as Line));
    socket.onclose = ({ code, reason }) => this.#closed(code, `${why} (${code}${reason && ` ${reason}`})`);
    // A close follows each error; but a library may throw where nobody listens.
    socket.onerror = () => {};
  }

  sync(feeds: readonly Feed[]): boolean {
    this.#wanted = feeds;
    if (!this.#ready) return true;
    for (const entry of [...this.#entries.values()]) {
      if (!feeds.includes(entry.feed) || entry.lap !== entry.feed.lap) this.#unsubscribe(entry);
    }
    for (const feed of feeds) if (!this.#entries.has(feed)) this.#subscribe(feed);
    this.#check();
    return true;
  }

  override request(line: object): Promise<Line> {
    return new Promise((ok, failed) => {
      this.#send(line, { ok, failed });
      // Ends early when the link is closed: then there is no answer either.
      void sleep(this.around.clock, limits.open, this.signal).then(() => failed(new NetworkError("no answer came")));
    });
  }

  override close(): void {
    super.close();
    this.#socket?.close(1000);
  }

  /** Some codes are the broker's word on whether and when to come back. */
  #closed(code: number, why: string): void {
    const status = code === 1008 ? 403 : code === 3000 && 401;
    if (status) this.failed(problemError({ status, code: "closed-by-broker", title: why }), this.#wanted);
    else this.end(why, code === 1012 || code === 1013 ? limits.come_back * (1 + this.around.random()) : undefined);
  }

  #send(line: object, pending?: Pending): number {
    const id = ++this.#ids;
    if (pending) this.#pending.set(id, pending);
    this.#socket!.send(JSON.stringify({ id, ...line }));
    return id;
  }

  #receive(line: Line | undefined): void {
    if (this.closed || !line) return;
    this.alive(line.kind === "message", false);
    if (line.kind === "welcome") this.#welcome(line).catch((error: unknown) => this.failed(error, this.#wanted));
    else if (line.kind === "bye") this.end(`bye: ${line.reason}`, line.retry_after_ms as number);
    else if (line.kind === "ok" || line.kind === "error") this.#answer(line);
    else if (line.sub === undefined) this.carried.line(line);
    else this.#tagged(line);
  }

  #answer(line: Line): void {
    const pending = this.#pending.get(line.id!);
    this.#pending.delete(line.id!);
    if (line.kind === "ok") pending?.ok(line);
    else pending?.failed(problemError(line as unknown as Problem));
  }

  async #welcome({ authenticate }: Line): Promise<void> {
    const { http } = this.around;
    // The token goes in a line: scripts can't set headers here, and addresses end up in logs.
    if (authenticate) await http.authorized(async (token) => token && this.request({ kind: "authenticate", token }));
    if (this.closed) return;
    this.#ready = true;
    this.sync(this.#wanted);
  }

  #subscribe(feed: Feed): void {
    const asked = feed.position;
    const entry: Entry = { id: 0, feed, lap: feed.lap, answered: false };
    this.#entries.set(feed, entry);
    entry.id = this.#send(
      { kind: "subscribe", topic: feed.topics, ...feed.ask() },
      {
        ok: ({ cursor }) => {
          if (this.#entries.get(feed) !== entry) return;
          entry.answered = true;
          if (!asked && feed.position && !(cursor! <= feed.position)) {
            // Another link found an earlier start first; from here, messages in between would be missed.
            this.#unsubscribe(entry);
            this.#subscribe(feed);
          } else if (!asked && cursor) {
            feed.move(cursor);
          }
          this.#check();
        },
        failed: (error) => {
          if (this.#entries.get(feed) !== entry || this.closed) return;
          this.#entries.delete(feed);
          if (!refused(error)) return this.failed(error, []);
          feed.fail(error);
          this.#check();
        },
      },
    );
  }

  #unsubscribe(entry: Entry): void {
    this.#entries.delete(entry.feed);
    this.#send({ kind: "unsubscribe", sub: entry.id });
  }

  /** It delivers once the broker has answered all subscriptions: the way is open in both directions. */
  #check(): void {
    if (this.#up || ![...this.#entries.values()].every(({ answered }) => answered)) return;
    this.#up = true;
    this.alive(false);
  }

  #tagged(line: Line): void {
    const entry = [...this.#entries.values()].find(({ id }) => id === line.sub);
    if (!entry) return;
    const { feed } = entry;
    entry.lap = feed.line(entry.lap, line);
    if (line.kind === "caught_up" && feed.lap === entry.lap) this.carried.join(feed);
  }
}
