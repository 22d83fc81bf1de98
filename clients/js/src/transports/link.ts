/** The common part of all transports: the interface to the hub, and how subscriptions are attached over plain requests. */
import { lifetimeOf, sleep, boundedWait, type Lifetime } from "../backoff.js";
import { attachedOf, type Attached } from "../attached.js";
import { GapError } from "../errors.js";
import { refused, retryAfter, toError, type Http } from "../http.js";
import { Kind } from "../fallback.js";
import * as limits from "../limits.js";
import type { Platform } from "../platform.js";
import type { Feed } from "../subscription.js";
import { streamPath } from "../topics.js";
import type { Line } from "../wire.js";

export interface Surroundings extends Platform {
  http: Http;
}

/** An event of a link, for its hub. Nothing comes after `ended`, nor after the hub closed the link. */
export type LinkEvent =
  /** The head of the answer is there. */
  | { kind: Kind.Opened }
  /** Something came, a message or not; and by now it delivers, or doesn't yet. */
  | { kind: Kind.Alive; message: boolean; up: boolean }
  /** The set of attached subscriptions changed by itself. */
  | { kind: Kind.Changed }
  | { kind: Kind.Ended; why: string; retry_after?: number | undefined; retry_ms?: number | undefined };

export type Tell = (event: LinkEvent) => void;

/** One attempt at one transport. */
export interface Link {
  readonly attached: Attached;
  /** Serve these subscriptions. False if that takes another link. */
  sync(feeds: readonly Feed[]): boolean;
  /** WebSocket only: sends a request, and gives the `ok` that answers it. */
  request?(line: object): Promise<Line>;
  close(): void;
}

/** The common part of links. */
export interface Base {
  attached: Attached;
  lifetime: Lifetime;
  /** A sign of life came, with a message or not, and whether it delivers by now. */
  alive(message: boolean, up?: boolean): void;
  /** `retry_after` is the value as the broker gave it, unchecked. */
  end(why: string, retry_after?: unknown): void;
  /** An error ends the link; a final refusal by the broker also ends the subscriptions that asked. */
  failed(reason: unknown, feeds: readonly Feed[]): void;
}

export function baseOf(tell: Tell): Base {
  const lifetime = lifetimeOf();
  const end: Base["end"] = (why, retry_after) => {
    if (lifetime.aborted) return;
    lifetime.end();
    tell({ kind: Kind.Ended, why, retry_after: boundedWait(retry_after) });
  };
  return {
    attached: attachedOf(),
    lifetime,
    alive: (message, up = true) => tell({ kind: Kind.Alive, message, up }),
    end,
    failed(reason, feeds) {
      const error = toError(reason);
      if (!lifetime.aborted && refused(error)) for (const feed of feeds) feed.fail(error);
      end(error.message, retryAfter(error));
    },
  };
}

interface Lines {
  lines: Line[];
  more: boolean;
  retry_after_ms?: number | undefined;
}

/** The common part of links made of plain requests. */
export interface HttpBase extends Base {
  sleep(ms: number): Promise<void>;
  /** A page as the lines that a stream would have given. */
  pages(path: string, timeout?: number): Promise<Lines>;
}

/**
 * A link made of plain requests. Its set of subscriptions is fixed when it has opened; for more, the hub opens another. `run`
 * delivers to what is attached, at least one, until that is less; then it is asked again for the rest.
 */
export function httpLink(feeds: readonly Feed[], { http, clock }: Surroundings, tell: Tell, run: (base: HttpBase) => Promise<void>): Link {
  const base = baseOf(tell);
  const { attached, lifetime, alive, failed } = base;
  /** Far behind, and still catching up by themselves. */
  const behind = new Set<Feed>();
  const sleeping = (ms: number): Promise<void> => sleep(clock, ms, lifetime);

  const pages = async (path: string, timeout?: number): Promise<Lines> => {
    try {
      const { messages, cursor, more, retry_after_ms } = await http.whole(path, { signal: lifetime }, timeout);
      const lines = messages.map((message) => ({ ...message, kind: "message" }) as Line);
      return { lines: [...lines, { kind: more ? "heartbeat" : "caught_up", cursor }], more, retry_after_ms };
    } catch (error) {
      if (!(error instanceof GapError)) throw error;
      // The messages after it are asked for next; not at once, should the gaps have no end.
      await sleeping(limits.gap_pause);
      return { lines: [{ ...error.problem, kind: "gap" }], more: true };
    }
  };

  /** Page by page from its own place to the tail. True if it got there. */
  const catchUp = async (feed: Feed): Promise<boolean> => {
    while (!feed.closed && !feed.paused && !lifetime.aborted) {
      const asked = feed.position;
      let { generation } = feed;
      try {
        const { lines, more } = await pages(streamPath(feed.topics, { ...feed.ask(), limit: limits.page_messages }));
        alive(lines.length > 1, false);
        // Another link may have found the start meanwhile, and then this page is no continuation of it.
        if (feed.generation !== generation || (!asked && feed.position)) continue;
        for (const line of lines) generation = feed.line(generation, line);
        if (!more) return feed.generation === generation;
      } catch (error) {
        if (!refused(error)) throw error;
        feed.fail(error);
      }
    }
    return false;
  };

  /** Lets subscriptions catch up alone that have to; those that take longer than a moment do so beside the others. */
  const attach = async (): Promise<void> => {
    let left = false;
    const all = Promise.all(
      feeds.map(async (feed) => {
        if (feed.alone) {
          behind.add(feed);
          const done = await catchUp(feed);
          behind.delete(feed);
          if (!done) return;
          feed.alone = false;
          if (left) tell({ kind: Kind.Changed });
        }
        if (!left) attached.add(feed);
      }),
    );
    all.catch((error: unknown) => failed(error, []));
    do await Promise.race([all, sleeping(limits.race)]);
    while (behind.size && !attached.feeds().length && !lifetime.aborted);
    left = true;
  };

  const live = async (): Promise<void> => {
    try {
      await attach();
      while (attached.feeds().length && !lifetime.aborted) await run({ ...base, sleep: sleeping, pages });
      // Nothing to deliver to for now: all are paused, or have to be attached to another link. That is no fault of this one.
      while (!lifetime.aborted) {
        alive(false);
        await sleeping(limits.answer);
      }
    } catch (error) {
      failed(error, attached.feeds());
    }
  };
  void live();

  return {
    attached,
    sync: (wanted) => wanted.every((feed) => attached.feeds().includes(feed) || behind.has(feed)),
    close: lifetime.end,
  };
}
