/** What all transports have in common: the interface to the hub, and how subscriptions come aboard over plain requests. */
import { sleep } from "../backoff.js";
import { Carried } from "../carried.js";
import { GapError } from "../errors.js";
import { refused, retryAfter, toError, type Http } from "../http.js";
import * as limits from "../limits.js";
import type { Platform } from "../platform.js";
import type { Feed } from "../subscription.js";
import { streamPath } from "../topics.js";
import type { Line } from "../wire.js";

export interface Surroundings extends Platform {
  http: Http;
}

/** What a link tells its hub. Nothing comes after `ended`, nor after the hub closed the link. */
export type LinkEvent =
  /** The head of the answer is there. */
  | { kind: "opened" }
  /** Something came, a message or not; and by now it delivers, or doesn't yet. */
  | { kind: "alive"; message: boolean; up: boolean }
  /** What it carries changed by itself. */
  | { kind: "changed" }
  | { kind: "ended"; why: string; retry_after?: number | undefined };

export type Tell = (event: LinkEvent) => void;

/** One attempt at one transport. */
export abstract class Link {
  readonly carried = new Carried();
  protected readonly around: Surroundings;
  protected readonly tell: Tell;
  readonly #abort = new AbortController();

  constructor(around: Surroundings, tell: Tell) {
    this.around = around;
    this.tell = tell;
  }

  /** Carry these. False if that takes another link. */
  abstract sync(feeds: readonly Feed[]): boolean;

  /** WebSocket only: sends a request, and gives the `ok` that answers it. */
  request?(line: object): Promise<Line>;

  close(): void {
    this.#abort.abort();
  }

  protected get signal(): AbortSignal {
    return this.#abort.signal;
  }

  protected get closed(): boolean {
    return this.signal.aborted;
  }

  protected alive(message: boolean, up = true): void {
    this.tell({ kind: "alive", message, up });
  }

  protected end(why: string, retry_after?: number): void {
    if (this.closed) return;
    this.close();
    this.tell({ kind: "ended", why, retry_after });
  }

  /** Whatever goes wrong ends the link; what the broker refuses for good, also the subscriptions that asked for it. */
  protected failed(reason: unknown, feeds: readonly Feed[]): void {
    const error = toError(reason);
    if (!this.closed && refused(error)) for (const feed of feeds) feed.fail(error);
    this.end(error.message, retryAfter(error));
  }
}

interface Lines {
  lines: Line[];
  more: boolean;
  retry_after_ms?: number | undefined;
}

/** A link made of plain requests. What it carries is fixed when it has opened; for more, the hub opens another. */
export abstract class HttpLink extends Link {
  /** Far behind, and still catching up by themselves. */
  readonly #behind = new Set<Feed>();

  constructor(feeds: readonly Feed[], around: Surroundings, tell: Tell) {
    super(around, tell);
    void this.#run(feeds);
  }

  /** Delivers until it ends; `carried` has at least one subscription. */
  protected abstract run(): Promise<void>;

  sync(feeds: readonly Feed[]): boolean {
    return feeds.every((feed) => this.carried.has(feed) || this.#behind.has(feed));
  }

  protected sleep(ms: number): Promise<void> {
    return sleep(this.around.clock, ms, this.signal);
  }

  async #run(feeds: readonly Feed[]): Promise<void> {
    try {
      await this.#board(feeds);
      if (this.carried.feeds().length && !this.closed) await this.run();
      // Nothing to carry for now: all are paused, or have to come aboard another link. That is no fault of this one.
      while (!this.closed) {
        this.alive(false);
        await this.sleep(limits.request);
      }
    } catch (error) {
      this.failed(error, this.carried.feeds());
    }
  }

  /** Lets subscriptions catch up alone that have to; those that take longer than a moment do so beside the others. */
  async #board(feeds: readonly Feed[]): Promise<void> {
    let left = false;
    const all = Promise.all(
      feeds.map(async (feed) => {
        if (feed.alone) {
          this.#behind.add(feed);
          const done = await this.#catchUp(feed);
          this.#behind.delete(feed);
          if (!done) return;
          feed.alone = false;
          if (left) this.tell({ kind: "changed" });
        }
        if (!left) this.carried.join(feed);
      }),
    );
    all.catch((error: unknown) => this.failed(error, []));
    do await Promise.race([all, this.sleep(limits.race)]);
    while (this.#behind.size && !this.carried.feeds().length && !this.closed);
    left = true;
  }

  /** Page by page from its own place to the tail. True if it got there. */
  async #catchUp(feed: Feed): Promise<boolean> {
    while (!feed.closed && !feed.paused && !this.closed) {
      const asked = feed.position;
      let { lap } = feed;
      try {
        const { lines, more } = await this.page(streamPath(feed.topics, { ...feed.ask(), limit: limits.page_messages }));
        this.alive(lines.length > 1, false);
        // Another link may have found the start meanwhile, and then this page is no continuation of it.
        if (feed.lap !== lap || (!asked && feed.position)) continue;
        for (const line of lines) lap = feed.line(lap, line);
        if (!more) return feed.lap === lap;
      } catch (error) {
        if (!refused(error)) throw error;
        feed.fail(error);
      }
    }
    return false;
  }

  /** A page as the lines that a stream would have given. */
  protected async page(path: string, timeout?: number): Promise<Lines> {
    try {
      const { messages, cursor, more, retry_after_ms } = await this.around.http.json(path, { signal: this.signal }, timeout);
      const lines = messages.map((message) => ({ ...message, kind: "message" }) as Line);
      return { lines: [...lines, { kind: more ? "heartbeat" : "caught_up", cursor }], more, retry_after_ms };
    } catch (error) {
      if (!(error instanceof GapError)) throw error;
      // What comes after it is asked for next; not at once, should the gaps have no end.
      await this.sleep(limits.gap_pause);
      return { lines: [{ ...error.problem, kind: "gap" }], more: true };
    }
  }
}
