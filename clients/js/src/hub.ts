/// <reference lib="esnext.disposable" preserve="true" />
/** The hub: holds subscriptions, runs the fallback state machine, opens and closes links as it orders. Of other tabs it knows nothing. */
import { emitterOf, type Emitter } from "./emitter.js";
import { TailwireError } from "./errors.js";
import { lifetimeOf, onAbort, sleep, throwIfAborted } from "./backoff.js";
import { httpOf } from "./http.js";
import { Kind, fallbackOf, type FallbackEvent, type Transport, type State } from "./fallback.js";
import * as limits from "./limits.js";
import { recall, remember } from "./memory.js";
import type { Platform } from "./platform.js";
import { probe, type Probe } from "./probe.js";
import { publisherOf, type PublishOptions, type Receipt } from "./publish.js";
import { refuseUnknown } from "./options.js";
import { feedOf, type Feed, type Start, type SubscribeOptions, type Subscription } from "./subscription.js";
import type { TokenSource } from "./token.js";
import { streamPath } from "./topics.js";
import type { Link, Surroundings } from "./transports/link.js";
import { TRANSPORTS, openLink } from "./transports/open.js";
import { toMessage, type Message } from "./wire.js";

export interface ConnectOptions extends Partial<Platform> {
  token?: TokenSource;
  /** The transports that may be used. */
  transports?: readonly Transport[] | undefined;
  /** Shares one connection among the tabs of a browser: what `tabs()` of `tailwire/tabs` gives. */
  tabs?: Tabs | undefined;
  /** Closes the hub. */
  signal?: AbortSignal | undefined;
}

/** Makes a hub for an address out of others, each with a connection of its own; `events` is for what it tells. */
export type Tabs = (connect: (options: ConnectOptions & Platform) => Hub, url: string, options: ConnectOptions & Platform, events: Emitter<HubEvents>) => Hub;

export interface TransportChange {
  /** Undefined at first. */
  from: Transport | undefined;
  to: Transport;
  why: string;
}

export interface TransportFailure {
  transport: Transport;
  why: string;
}

export interface HubEvents {
  state: State;
  transport: TransportChange;
  /** A transport failed; emitted again when it fails for another reason, or after it has worked. */
  failure: TransportFailure;
}

export interface PageOptions extends Start {
  limit?: number;
  /** The `to` of a gap that is known. */
  gap?: string;
  signal?: AbortSignal | undefined;
}

export interface Page<T = unknown> {
  messages: Message<T>[];
  /** The `after` of the next page. */
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
export function directHub(base: URL, { token, transports = TRANSPORTS, signal, ...platform }: ConnectOptions & Platform): Hub {
  const { clock, network } = platform;
  const lifetime = lifetimeOf();
  const http = httpOf(base, platform, token, lifetime, () => handle({ kind: Kind.Answered }));
  const around: Surroundings = { ...platform, http };
  const usable = TRANSPORTS.filter((name) => transports.includes(name) && (name !== "websocket" || platform.WebSocket));
  if (!usable.length) throw new TypeError("No transport");
  const events = emitterOf<HubEvents>();
  const feeds = new Set<Feed>();
  const links = new Map<object, Link>();
  /** The link that delivers, by its id. */
  let active: object | undefined;
  let transport: Transport | undefined;
  let state: State = "connecting";
  let timer: unknown;
  let timer_at = Infinity;
  let syncing = false;
  let heard_at = 0;
  const wanted = (): Feed[] => [...feeds].filter((feed) => !feed.paused);

  const publisher = publisherOf(around, () => links.get(active!));
  const remembered = usable.indexOf(recall(around)!);
  const fallback = fallbackOf(usable, Math.max(0, remembered), platform.random, {
    open,
    close(id) {
      links.get(id)?.close();
      links.delete(id);
    },
    activate,
    failed: (transport, why) => events.emit("failure", { transport, why }),
    audit,
  });
  onAbort(lifetime, network.listen((event) => {
    // Timers of a page in the background hardly run: look whether the connection is still there.
    const lost = event !== "shown" || clock.date() - heard_at > limits.silence / 2;
    if (lost) handle({ kind: event === "offline" ? Kind.Offline : Kind.Network });
  }));
  onAbort(lifetime, onAbort(signal, close));

  return {
    get state() {
      return state;
    },
    on: events.on,
    subscribe,
    publish: publisher.publish,
    page,
    probe: () => probe(usable, allTerms(feeds.size ? [] : ["probe"]), around),
    close,
    [Symbol.asyncDispose]: close as never,
  };

  function allTerms(more: readonly string[]): string[] {
    return [...new Set([...feeds].flatMap((feed) => feed.topics).concat(more))];
  }

  function subscribe<T>(topic: string | readonly string[], options: SubscribeOptions = {}): Subscription<T> {
    throwIfAborted(lifetime);
    const topics = [...new Set([topic].flat())];
    if (feeds.size >= limits.subscriptions || allTerms(topics).length > limits.terms) throw new TailwireError("filter-too-large", "Too many topics");
    const feed = feedOf(topics, options, changed);
    feeds.add(feed);
    changed();
    return feed as unknown as Subscription<T>;
  }

  async function page<T>(topic: string | readonly string[], { signal, after, last, limit, gap, ...left }: PageOptions = {}): Promise<Page<T>> {
    refuseUnknown(left);
    // An answer that is no page fails within, where every error gets a class.
    const read = ({ messages, cursor, more }: Page<T>): Page<T> => ({ messages: messages.map(toMessage) as Message<T>[], cursor, more });
    return http.whole(streamPath([topic].flat(), { after, last, limit, gap }), { signal }, undefined, read);
  }

  function close(): void {
    if (lifetime.aborted) return;
    state = "closed";
    clock.clearTimeout(timer);
    for (const each of [...links.values(), ...feeds]) each.close();
    lifetime.end();
    publisher.wake();
    events.emit("state", state);
  }

  /** Subscriptions came, left, paused, or have to be asked for anew. What happens in one turn is done in one go. */
  function changed(): void {
    for (const feed of feeds) if (feed.closed) feeds.delete(feed);
    if (syncing) return;
    syncing = true;
    clock.setTimeout(sync, 0);
  }

  function sync(): void {
    syncing = false;
    if (lifetime.aborted) return;
    if (!feeds.size) return handle({ kind: Kind.Stop });
    const feeds_now = wanted();
    handle({ kind: Kind.Start });
    for (const link of [...links.values()]) {
      const serves = link.sync(feeds_now);
      if (!serves && link === links.get(active!)) handle({ kind: Kind.Renew });
    }
  }

  function handle(event: FallbackEvent): void {
    if (lifetime.aborted) return;
    fallback.handle(event, clock.now(), http.wait());
    // By a listener, meanwhile.
    if (lifetime.aborted) return;
    if (active && !links.has(active)) {
      active = undefined;
      for (const feed of feeds) feed.live = false;
    }
    arm();
    if (fallback.state === state) return;
    state = fallback.state;
    events.emit("state", state);
  }

  function open(id: object, transport: Transport): void {
    // A listener may have closed the hub meanwhile.
    if (lifetime.aborted) return;
    const link = openLink(transport, wanted(), around, (event) => {
      if (!links.has(id)) return;
      heard_at = clock.date();
      if (event.kind === Kind.Changed) changed();
      else handle({ ...event, id });
    });
    links.set(id, link);
  }

  function activate(id: object, to: Transport, why: string): void {
    const from = transport;
    active = id;
    transport = to;
    remember(to, around);
    publisher.wake();
    // Subscriptions may have changed while it opened.
    changed();
    if (from !== to) events.emit("transport", { from, to, why });
  }

  /** An audit: lines flowed, and stopped. A page, which no intermediary buffers, shows whether there are more. */
  async function audit(id: object): Promise<void> {
    const attached = links.get(id)?.attached;
    if (!attached?.feeds().length) return;
    try {
      const [message] = (await http.whole(attached.path({ limit: 1 }), {})).messages as Message[];
      await sleep(clock, limits.audit_grace);
      const missed = message && attached.feeds().some((feed) => feed.matches(message.topic) && feed.position < message.cursor);
      handle({ kind: missed ? Kind.Ended : Kind.Audited, id, why: "it held lines back" });
    } catch {
      // No answer, or a gap, says nothing about the connection: the fallback asks again.
    }
  }

  /** One timer for all that is due. */
  function arm(): void {
    const at = fallback.next_at;
    // A timer that comes too early does no harm: most deadlines move with every line.
    if (at < timer_at) {
      clock.clearTimeout(timer);
      timer_at = at;
      const wait = at - clock.now();
      // In some systems the other clock stands still while the machine sleeps.
      const due = clock.date() + wait;
      timer = clock.setTimeout(() => {
        timer_at = Infinity;
        handle({ kind: clock.date() - due > limits.slept ? Kind.Network : Kind.Tick });
      }, wait);
    }
  }
}
