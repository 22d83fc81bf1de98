/// <reference lib="esnext.disposable" preserve="true" />
/**
 * One subscription: what it asks for, how far it got, and how its messages reach the application. It doesn't know how
 * messages come; several connections may deliver to it at once, and what it has it drops.
 *
 * Nothing is ever thrown away for want of room. The log is the queue: a subscription whose buffer is full stops taking,
 * and goes on from its place in the log when half of the buffer was read.
 */
import { onAbort } from "./backoff.js";
import { emitterOf } from "./emitter.js";
import type { TailwireError } from "./errors.js";
import * as limits from "./limits.js";
import { matches } from "./topics.js";
import { refuseUnknown } from "./options.js";
import { toMessage, type Gap, type Line, type Message } from "./wire.js";

/** Where to begin: after a cursor, at a time (`"2026-11-30T10:00:00Z"`, `"-10m"`), at `"earliest"`, at `"latest"` (the default), or with the `last` n messages. */
export interface Start {
  after?: string;
  last?: number;
}

export interface SubscribeOptions extends Start {
  /** Messages that may wait to be read before the subscription pauses. */
  buffer?: number;
  /** Closes the subscription. */
  signal?: AbortSignal | undefined;
}

export interface SubscriptionEvents<T> {
  message: Message<T>;
  /** Messages were lost to this subscription. Emitted in its place among the messages. */
  gap: Gap;
  /** Everything stored has been delivered; what follows is live. Emitted again after an interruption. */
  caught_up: { cursor: string };
  /** `cursor` moved without a message, past what other topics got. */
  moved: { cursor: string };
  /** The subscription can't go on, and is closed. */
  error: TailwireError;
}

export interface Subscription<T = unknown> extends AsyncIterable<Message<T>> {
  readonly topics: readonly string[];
  /** The place up to which everything was delivered to the application: what to store, to go on from another time. */
  readonly cursor: string | undefined;
  readonly closed: boolean;
  on<Name extends keyof SubscriptionEvents<T>>(name: Name, run: (value: SubscriptionEvents<T>[Name]) => void): () => void;
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An event that waits for the application, with its value and the position that is reached by it. */
interface PendingEvent {
  name: "message" | "gap" | "caught_up" | "moved";
  value: unknown;
  cursor: string;
}

const DONE = { done: true, value: undefined } as const;

/** A subscription as connections see it. */
export interface Feed extends Subscription {
  /** Everything up to here was taken, or was not for us. Empty until the start is known. */
  position: string;
  /** The end of the last gap that was emitted, or was found to be none. */
  known: string;
  /** Raised whenever `position` stops being one that connections may build on; what they deliver of an older generation is dropped. */
  generation: number;
  /** The next connection has to ask for it alone first, by its own place. */
  alone: boolean;
  paused: boolean;
  /** It stood at the tail, and a connection has delivered since. */
  live: boolean;
  closed: boolean;
  matches(topic: string): boolean;
  /** The parameters of the next request, to go on. */
  ask(): { after?: string | undefined; last?: number | undefined; gap?: string | undefined };
  /**
   * A line of a connection, which is shared with others or is for this one alone. Returns the generation in which one that
   * is for this one alone goes on delivering.
   */
  line(generation: number, line: Line, shared?: boolean): number;
  /** Everything up to this cursor has been delivered. */
  move(cursor: string): void;
  fail(error: TailwireError): void;
}

/** `changed` is called when connections have to look at it again. */
export function feedOf(topics: readonly string[], options: SubscribeOptions, changed: () => void): Feed {
  const { buffer = limits.buffer_messages, signal, after, last, ...left } = options;
  refuseUnknown(left);
  if (!(buffer >= 1)) throw new RangeError("buffer < 1");
  // A cursor; words and times are none.
  const start = /^\w+-\w+$/.test(after!) ? after! : "";
  /** The end of a gap of a shared connection that may be this subscription's; asking alone shows. */
  let suspected = "";
  /** The high-water mark: where a gap leads back, messages up to here were taken before. */
  let mark = "";
  let pending: PendingEvent[] = [];
  let delivered = start;
  let iterated = false;
  /** One reads at a time, and wakes when something is there to read. */
  let reading: Promise<unknown> = Promise.resolve();
  let wake = (): void => {};
  let failure: TailwireError | undefined;
  let forget = (): void => {};
  const events = emitterOf<SubscriptionEvents<unknown>>();

  const feed: Feed = {
    topics,
    position: start,
    known: "",
    generation: 0,
    alone: true,
    paused: false,
    live: false,
    closed: false,
    matches: (topic) => topics.some((term) => matches(term, topic)),
    ask() {
      const { position, known } = feed;
      if (position) return { after: position, gap: known > position ? known : undefined };
      return last ? { last } : { after: after ?? "latest" };
    },
    line(generation, line, shared) {
      const { kind, cursor } = line;
      if (generation !== feed.generation) return generation;
      if (kind === "gap") {
        gap(line as unknown as Gap, shared);
        return feed.generation;
      }
      if (kind === "message") {
        if (cursor! > feed.position && (!shared || feed.matches(line.topic!))) take(line);
      } else if (kind === "heartbeat" || kind === "caught_up") {
        feed.move(cursor!);
        if (kind === "caught_up") caughtUp();
      }
      return generation;
    },
    move(cursor) {
      if (cursor <= feed.position) return;
      feed.position = cursor;
      hand("moved", { cursor });
    },
    fail(error) {
      if (feed.closed) return;
      failure = error;
      end();
      events.emit("error", error);
      if (!iterated && !events.has("error")) console.error(error);
    },

    get cursor() {
      return delivered || undefined;
    },
    on(name, run) {
      const stop = events.on(name, run);
      drain();
      return stop;
    },
    close,
    [Symbol.asyncDispose]: close as never,
    [Symbol.asyncIterator]() {
      iterated = true;
      return {
        next: () => (reading = reading.then(read, read)) as ReturnType<typeof read>,
        async return() {
          close();
          return DONE;
        },
        [Symbol.asyncIterator]() {
          return this;
        },
      };
    },
  };
  forget = onAbort(signal, close);
  return feed;

  function take(line: Line): void {
    if (line.cursor! <= mark) feed.move(line.cursor!);
    else if (pending.length < buffer) {
      feed.position = line.cursor!;
      hand("message", toMessage(line));
    } else {
      feed.paused = true;
      feed.live = false;
      leave();
    }
  }

  function caughtUp(): void {
    if (suspected > feed.known) feed.known = suspected;
    // At the tail, whatever follows is new, also in a log that lies before the mark as a whole.
    mark = "";
    if (!feed.live) hand("caught_up", { cursor: feed.position });
    feed.live = true;
  }

  function gap({ from, to, reason }: Gap, shared?: boolean): void {
    // Messages are gone, but the place stands; in other gaps the place itself is not, or no longer, one of the log.
    const loss = reason === "retention" || reason === "deleted";
    // Another connection may have come further, or have brought it.
    if (loss && (to <= feed.position || to <= feed.known)) return;
    if (shared) {
      // It may be a gap of others on that connection. Asking alone shows.
      suspected = loss ? to : "";
      leave();
      return;
    }
    feed.known = loss ? to : "";
    if (!loss) {
      // Other connections deliver from a position that is no more. Only a log of another epoch can repeat messages;
      // after the other reasons a new message may have a smaller cursor than one that was lost.
      if (reason === "epoch" && feed.position > mark) mark = feed.position;
      feed.position = from;
      suspected = "";
      feed.generation++;
      changed();
    }
    hand("gap", { from, to, reason });
  }

  /** From here on no connection delivers, until one has asked for this subscription alone. */
  function leave(): void {
    feed.generation++;
    feed.alone = true;
    changed();
  }

  function close(): void {
    pending = [];
    if (!feed.closed) end();
  }

  function end(): void {
    feed.closed = true;
    feed.generation++;
    wake();
    forget();
    changed();
  }

  /** The next message for a loop. Loops share: each message goes to one. They end when it is closed, and throw when it failed. */
  async function read(): Promise<IteratorResult<Message, undefined>> {
    for (;;) {
      // Events before the message are emitted on the way.
      while (pending.length) {
        const { name, value } = tell();
        if (name === "message") return { value: value as Message, done: false };
      }
      if (failure) throw failure;
      if (feed.closed) return DONE;
      await new Promise<void>((resolve) => (wake = resolve));
    }
  }

  function hand(name: PendingEvent["name"], value: unknown): void {
    // Where only the place has changed, one note of it will do.
    if (pending.at(-1)?.name === "moved") pending.pop();
    pending.push({ name, value, cursor: feed.position });
    drain();
    wake();
  }

  /** Pending events go to listeners at once; to a loop, when it asks. Without messages before them, events don't wait. */
  function drain(): void {
    const wait = iterated || !events.has("message");
    while (pending.length && !(wait && pending[0]!.name === "message")) tell();
  }

  function tell(): PendingEvent {
    const next = pending.shift()!;
    if (feed.paused && pending.length <= buffer / 2) {
      feed.paused = false;
      changed();
    }
    delivered = next.cursor;
    events.emit(next.name, next.value as never);
    return next;
  }
}
