/**
 * One subscription: what it asks for, how far it got, and how its messages reach the application. It doesn't know how
 * messages come; several connections may deliver to it at once, and what it has it drops.
 *
 * Nothing is ever thrown away for want of room. The log is the queue: a subscription whose buffer is full stops taking,
 * and goes on from its place in the log when half of the buffer was read.
 */
import type { TailwireError } from "./errors.js";
import { Emitter } from "./emitter.js";
import { matches } from "./topics.js";
import { toMessage, type Gap, type Line, type Message } from "./wire.js";

/** Where to begin: after a cursor, at `"earliest"`, at `"latest"` (the default), or with the `last` n messages. */
export interface Start {
  after?: string;
  last?: number;
}

export interface SubscribeOptions extends Start {
  /** Messages that may wait to be read before the subscription pauses. */
  buffer?: number;
  /** Closes the subscription. */
  signal?: AbortSignal;
}

export interface SubscriptionEvents<T> {
  message: Message<T>;
  /** Messages were lost to this subscription. Told in its place among the messages. */
  gap: Gap;
  /** Everything stored has been delivered; what follows is live. Told again after an interruption. */
  caught_up: { cursor: string };
  /** `cursor` moved without a message, past what other topics got. */
  moved: { cursor: string };
  /** The subscription can't go on, and is closed. */
  error: TailwireError;
}

export interface Subscription<T = unknown> extends AsyncIterable<Message<T>> {
  readonly topics: readonly string[];
  /** The place up to which everything was handed to the application: what to store, to go on from another time. */
  readonly cursor: string | undefined;
  readonly closed: boolean;
  on<Name extends keyof SubscriptionEvents<T>>(name: Name, run: (value: SubscriptionEvents<T>[Name]) => void): () => void;
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What waits to be handed over: an event with its value, and the place that is reached by it. */
interface Waiting {
  name: "message" | "gap" | "caught_up" | "moved";
  value: unknown;
  cursor: string;
}

export class Feed implements Subscription<unknown> {
  /** Everything up to here was taken, or was not for us. Empty until the start is known. */
  position = "";
  /** Up to here a gap was told already, or was found to be none. */
  known = "";
  /** A gap of a shared connection that may be ours; asking alone will tell. */
  doubt = "";
  /** Raised whenever `position` stops being one that connections may build on; what they deliver of an older lap is dropped. */
  lap = 0;
  /** The next connection has to ask for it alone first, by its own place. */
  alone = true;
  paused = false;
  closed = false;
  readonly topics: readonly string[];

  readonly #start: Start;
  readonly #room: number;
  readonly #changed: () => void;
  readonly #events = new Emitter<SubscriptionEvents<unknown>>();
  #waiting: Waiting[] = [];
  #handed = "";
  #live = false;
  #iterated = false;
  #wake: (() => void) | undefined;
  #error: TailwireError | undefined;

  constructor(topics: readonly string[], start: Start, room: number, changed: () => void) {
    this.topics = topics;
    this.#start = start;
    const { after } = start;
    if (after && after !== "earliest" && after !== "latest") this.position = this.#handed = after;
    this.#room = room;
    this.#changed = changed;
  }

  // For connections.

  matches(topic: string): boolean {
    return this.topics.some((term) => matches(term, topic));
  }

  /** What to ask for, to go on. */
  ask(): { after?: string | undefined; last?: number | undefined; gap?: string | undefined } {
    const { position, known } = this;
    if (position) return { after: position, gap: known > position ? known : undefined };
    const { last, after } = this.#start;
    return { last, after: last ? undefined : (after ?? "latest") };
  }

  /**
   * A line of a connection, which is shared with others or is for this one alone. Returns the lap in which that
   * connection goes on delivering.
   */
  line(lap: number, line: Line, shared = false): number {
    const { kind, cursor } = line;
    if (lap !== this.lap) return lap;
    if (kind === "gap") return this.#gap(line as unknown as Gap, shared);
    if (kind === "message") {
      if (cursor! > this.position && (!shared || this.matches(line.topic!))) this.#take(line);
    } else if (kind === "heartbeat" || kind === "caught_up") {
      this.move(cursor!);
      if (kind === "caught_up") this.#caughtUp();
    }
    return lap;
  }

  /** Everything up to this cursor has been delivered. */
  move(cursor: string): void {
    if (cursor <= this.position) return;
    this.position = cursor;
    this.#hand("moved", { cursor });
  }

  #take(line: Line): void {
    if (this.#waiting.length < this.#room) {
      this.position = line.cursor!;
      this.#hand("message", toMessage(line));
    } else {
      this.paused = true;
      this.#live = false;
      this.#leave();
    }
  }

  #caughtUp(): void {
    if (this.doubt > this.known) this.known = this.doubt;
    if (!this.#live) this.#hand("caught_up", { cursor: this.position });
    this.#live = true;
  }

  #gap({ from, to, reason }: Gap, shared: boolean): number {
    const { lap } = this;
    // Messages are gone, but the place stands; in other gaps the place itself is not, or no longer, one of the log.
    const loss = reason === "retention" || reason === "deleted";
    // Another connection may have come further, or have told it.
    if (loss && (to <= this.position || to <= this.known)) return lap;
    if (shared) {
      // It may be a gap of others on that connection. Asking alone will tell.
      this.doubt = loss ? to : "";
      this.#leave();
      return lap;
    }
    this.known = loss ? to : "";
    if (!loss) {
      // What other connections deliver builds on a place that is no more.
      this.position = from;
      this.doubt = "";
      this.lap++;
      this.#changed();
    }
    this.#hand("gap", { from, to, reason });
    return this.lap;
  }

  /** From here on no connection delivers, until one has asked for this subscription alone. */
  #leave(): void {
    this.lap++;
    this.alone = true;
    this.#changed();
  }

  /** No connection delivers at the moment. */
  interrupted(): void {
    this.#live = false;
  }

  fail(error: TailwireError): void {
    if (this.closed) return;
    this.#error = error;
    this.#end();
    this.#events.emit("error", error);
  }

  // For the application.

  get cursor(): string | undefined {
    return this.#handed || undefined;
  }

  on<Name extends keyof SubscriptionEvents<unknown>>(name: Name, run: (value: SubscriptionEvents<unknown>[Name]) => void): () => void {
    const stop = this.#events.on(name, run);
    this.#drain();
    return stop;
  }

  close(): void {
    this.#waiting = [];
    if (!this.closed) this.#end();
  }

  [Symbol.asyncDispose] = async (): Promise<void> => this.close();

  /** Ends when the subscription is closed, throws when it failed. Leaving the loop closes it. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Message, void, void> {
    this.#iterated = true;
    try {
      for (;;) {
        const next = this.#next();
        if (next) yield next;
        else if (this.#error) throw this.#error;
        else if (this.closed) return;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      this.close();
    }
  }

  #end(): void {
    this.closed = true;
    this.lap++;
    this.#wake?.();
    this.#changed();
  }

  /** Takes what waits up to the next message, telling what stands before it. */
  #next(): Message | undefined {
    while (this.#waiting.length) {
      const { name, value } = this.#tell();
      if (name === "message") return value as Message;
    }
    return undefined;
  }

  #hand(name: Waiting["name"], value: unknown): void {
    // Where only the place has changed, one note of it will do.
    if (this.#waiting.at(-1)?.name === "moved") this.#waiting.pop();
    this.#waiting.push({ name, value, cursor: this.position });
    this.#drain();
    this.#wake?.();
  }

  /** To listeners what waits goes at once; to a loop, when it asks. Without messages before them, events don't wait. */
  #drain(): void {
    const wait = this.#iterated || !this.#events.has("message");
    while (this.#waiting.length && !(wait && this.#waiting[0]!.name === "message")) this.#tell();
  }

  #tell(): Waiting {
    const next = this.#waiting.shift()!;
    if (this.paused && this.#waiting.length <= this.#room / 2) {
      this.paused = false;
      this.#changed();
    }
    this.#handed = next.cursor;
    this.#events.emit(next.name, next.value as never);
    return next;
  }
}
