/** The hub: holds subscriptions, runs the ladder, opens and closes links as it commands. Of other tabs it knows nothing. */
import { Emitter } from "./emitter.js";
import { ClosedError, TailwireError } from "./errors.js";
import { onAbort, sleep } from "./backoff.js";
import { Http } from "./http.js";
import { ladderOf, type Ladder, type LadderEvent, type Rung, type State } from "./ladder.js";
import * as limits from "./limits.js";
import { recall, remember } from "./memory.js";
import { defaultPlatform, type Platform } from "./platform.js";
import { probe, type Probe } from "./probe.js";
import { publish, type PublishOptions, type Receipt } from "./publish.js";
import { Feed, type Start, type SubscribeOptions, type Subscription } from "./subscription.js";
import { tokensOf, type TokenSource } from "./token.js";
import { streamPath } from "./topics.js";
import type { Link, Surroundings } from "./transports/link.js";
import { RUNGS, openLink } from "./transports/open.js";
import { toMessage, type Message } from "./wire.js";

export interface ConnectOptions extends Partial<Platform> {
  token?: TokenSource;
  /** The transports that may be used. */
  transports?: readonly Rung[] | undefined;
  /** Shares one connection among the tabs of a browser: what `tabs()` of `tailwire/tabs` gives. */
  tabs?: Tabs | undefined;
  /** Closes the hub. */
  signal?: AbortSignal | undefined;
}

/** Makes a hub for an address out of others, each with a connection of its own; `events` is for what it tells. */
export type Tabs = (connect: (options: ConnectOptions) => Hub, url: string, options: ConnectOptions & Platform, events: Emitter<HubEvents>) => Hub;

export interface TransportChange {
  /** Undefined at first. */
  from: Rung | undefined;
  to: Rung;
  why: string;
}

export interface HubEvents {
  state: State;
  transport: TransportChange;
}

export interface PageOptions extends Start {
  limit?: number;
  /** The `to` of a gap that is known. */
  gap?: string;
  signal?: AbortSignal | undefined;
}

export interface Page<T = unknown> {
  messages: Message<T>[];
  /** What to give as `after` for the next page. */
  cursor: string;
  /** Whether there is a next page now. */
  more: boolean;
}

export interface Hub {
  /** `connecting`, also while there is no subscription; `live` on the best transport there is, `degraded` on another. */
  readonly state: State;
  /** Returns the function that takes the listener off again. */
  on<Name extends keyof HubEvents>(name: Name, run: (value: HubEvents[Name]) => void): () => void;
  subscribe<T = unknown>(topic: string | readonly string[], options?: SubscribeOptions): Subscription<T>;
  publish(topic: string, data: unknown, options?: PublishOptions): Promise<Receipt>;
  page<T = unknown>(topic: string | readonly string[], options?: PageOptions): Promise<Page<T>>;
  /** Tries every transport by itself, beside what runs. */
  probe(): Promise<Probe>;
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** The hub that has a connection of its own. */
export class DirectHub implements Hub {
  readonly #around: Surroundings;
  readonly #rungs: readonly Rung[];
  readonly #ladder: Ladder;
  readonly #events = new Emitter<HubEvents>();
  readonly #feeds = new Set<Feed>();
  readonly #links = new Map<number, Link>();
  readonly #abort = new AbortController();
  readonly #unlisten: () => void;
  #carrier: { id: number; rung: Rung; link: Link } | undefined;
  #transport: Rung | undefined;
  #state: State = "connecting";
  #timer: unknown;
  #timer_at = Infinity;
  #syncing = false;
  #heard_at = 0;

  constructor(base: URL, options: ConnectOptions) {
    const { token, transports, signal, ...parts } = options;
    const platform: Platform = { ...defaultPlatform(), ...parts };
    const tokens = token && tokensOf(token, platform.clock, this.#abort.signal);
    this.#around = { ...platform, http: new Http(base, platform, tokens) };
    this.#rungs = RUNGS.filter((rung) => (transports ?? RUNGS).includes(rung) && (rung !== "websocket" || platform.WebSocket));
    if (!this.#rungs.length) throw new TailwireError("transports", "No transport can be had");
    const remembered = this.#rungs.indexOf(recall(this.#around)!);
    this.#ladder = ladderOf(this.#rungs, Math.max(0, remembered), platform.random, {
      open: (id, rung) => this.#openLink(id, rung),
      close: (id) => {
        this.#links.get(id)?.close();
        this.#links.delete(id);
      },
      carry: (id, rung, why) => this.#carry(id, rung, why),
      audit: (id) => void this.#audit(id),
    });
    this.#unlisten = platform.network.listen((event) => {
      if (event !== "shown") this.#handle({ kind: event });
      // Timers of a page in the background hardly run: look whether the connection is still there.
      else if (platform.clock.now() - this.#heard_at > limits.silence / 2) this.#handle({ kind: "network" });
    });
    onAbort(signal, () => this.close());
  }

  get state(): State {
    return this.#state;
  }

  on<Name extends keyof HubEvents>(name: Name, run: (value: HubEvents[Name]) => void): () => void {
    return this.#events.on(name, run);
  }

  subscribe<T = unknown>(topic: string | readonly string[], options: SubscribeOptions = {}): Subscription<T> {
    this.#check();
    const topics = typeof topic === "string" ? [topic] : [...new Set(topic)];
    const terms = new Set([...this.#feeds].flatMap((feed) => feed.topics).concat(topics));
    if (terms.size > limits.terms || streamPath(terms, {}).length > limits.query_bytes) {
      throw new TailwireError("filter-too-large", "Too many topics");
    }
    const feed = new Feed(topics, options, options.buffer ?? limits.buffer_messages, () => this.#changed());
    this.#feeds.add(feed);
    onAbort(options.signal, () => feed.close());
    this.#changed();
    return feed as unknown as Subscription<T>;
  }

  publish(topic: string, data: unknown, options: PublishOptions = {}): Promise<Receipt> {
    this.#check();
    return publish(topic, data, options, this.#around, () => {
      this.#check();
      return this.#carrier?.link.request && this.#carrier.link;
    });
  }

  async page<T = unknown>(topic: string | readonly string[], options: PageOptions = {}): Promise<Page<T>> {
    this.#check();
    const { signal, ...query } = options;
    const { messages, cursor, more } = await this.#around.http.json(streamPath([topic].flat(), query), { signal: signal! });
    return { messages: messages.map((message) => toMessage(message) as Message<T>), cursor, more };
  }

  probe(): Promise<Probe> {
    this.#check();
    const [feed] = this.#feeds;
    return probe(this.#rungs, feed?.topics ?? ["probe"], this.#around);
  }

  close(): void {
    if (this.#closed) return;
    this.#state = "closed";
    this.#unlisten();
    this.#around.clock.clearTimeout(this.#timer);
    for (const link of this.#links.values()) link.close();
    for (const feed of this.#feeds) feed.close();
    this.#abort.abort();
    this.#events.emit("state", "closed");
  }

  [Symbol.asyncDispose] = async (): Promise<void> => this.close();

  get #closed(): boolean {
    return this.#state === "closed";
  }

  #check(): void {
    if (this.#closed) throw new ClosedError("hub");
  }

  /** Subscriptions came, left, paused, or have to be asked for anew. What happens in one turn is done in one go. */
  #changed(): void {
    if (this.#syncing) return;
    this.#syncing = true;
    this.#around.clock.setTimeout(() => {
      this.#syncing = false;
      this.#sync();
    }, 0);
  }

  #sync(): void {
    for (const feed of this.#feeds) if (feed.closed) this.#feeds.delete(feed);
    if (this.#closed) return;
    if (!this.#feeds.size) return this.#handle({ kind: "stop" });
    const wanted = this.#wanted();
    this.#handle({ kind: "start" });
    for (const link of [...this.#links.values()]) {
      const carries = link.sync(wanted);
      if (!carries && link === this.#carrier?.link) this.#handle({ kind: "renew" });
    }
  }

  #wanted(): Feed[] {
    return [...this.#feeds].filter((feed) => !feed.closed && !feed.paused);
  }

  #handle(event: LadderEvent): void {
    if (this.#closed) return;
    this.#ladder.handle(event, this.#around.clock.now());
    // By a listener, meanwhile.
    if (this.#closed) return;
    if (this.#carrier && !this.#links.has(this.#carrier.id)) {
      this.#carrier = undefined;
      for (const feed of this.#feeds) feed.interrupted();
    }
    this.#arm();
    const { state } = this.#ladder;
    if (state === this.#state) return;
    this.#state = state;
    this.#events.emit("state", state);
  }

  #openLink(id: number, rung: Rung): void {
    // A listener may have closed the hub meanwhile.
    if (this.#closed) return;
    const link = openLink(rung, this.#wanted(), this.#around, (event) => {
      if (!this.#links.has(id)) return;
      this.#heard_at = this.#around.clock.now();
      if (event.kind === "changed") this.#changed();
      else this.#handle({ ...event, id });
    });
    this.#links.set(id, link);
  }

  #carry(id: number, rung: Rung, why: string): void {
    const from = this.#transport;
    this.#carrier = { id, rung, link: this.#links.get(id)! };
    this.#transport = rung;
    remember(rung, this.#around);
    // What changed while it opened.
    this.#changed();
    if (from !== rung) this.#events.emit("transport", { from, to: rung, why });
  }

  /** Lines flowed, and stopped. A plain page, which nothing can hold back, shows whether there are more. */
  async #audit(id: number): Promise<void> {
    const { http, clock } = this.#around;
    const carried = this.#links.get(id)?.carried;
    if (!carried?.feeds().length) return;
    try {
      const [message] = (await http.json(carried.path({ limit: 1 }), { signal: this.#abort.signal })).messages as Message[];
      await sleep(clock, limits.audit_grace);
      const missed = message && carried.feeds().some((feed) => feed.matches(message.topic) && feed.position < message.cursor);
      this.#handle({ kind: missed ? "ended" : "audited", id, why: "it held lines back" });
    } catch {
      // No answer, or a gap, says nothing about the connection: the ladder asks again.
    }
  }

  /** One timer for all that is due. */
  #arm(): void {
    const { clock } = this.#around;
    const at = this.#ladder.next_at;
    // A timer that comes too early does no harm: most deadlines move with every line.
    if (at >= this.#timer_at) return;
    clock.clearTimeout(this.#timer);
    this.#timer_at = at;
    this.#timer = clock.setTimeout(() => {
      const late = clock.now() - this.#timer_at;
      this.#timer_at = Infinity;
      this.#handle({ kind: late > limits.slept ? "network" : "tick" });
    }, Math.max(0, at - clock.now()));
  }
}
