/** The platform: all that the client needs of its surroundings, each part replaceable; the only file that touches globals. */
import * as limits from "./limits.js";

export interface Clock {
  /** Milliseconds since any time. Never set: it measures waits. */
  now(): number;
  /** Milliseconds since 1970, for times that others give, and to notice that the machine slept. */
  date(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** `localStorage`, or anything like it. */
export interface Store {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** A change of the network, as the system reports it. */
export interface Network {
  /** Tells networks apart where the system can, so that what worked on one isn't assumed of another. */
  id(): string;
  /** Calls back on changes, until the returned function is called. `shown`: the page came back to the front. */
  listen(tell: (event: "offline" | "network" | "shown") => void): () => void;
}

/** A `WebSocket`, as far as it is needed: that of the browser, or of a library. */
export interface Socket {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface Platform {
  fetch: typeof fetch;
  /** Left out where there is none; then the first transport is the stream. */
  WebSocket?: (new (url: string, protocol: string) => Socket) | undefined;
  clock: Clock;
  storage?: Store | undefined;
  network: Network;
  /** From 0 to 1. */
  random: () => number;
  /** A unique key. */
  unique: () => string;
}

export function defaultPlatform(): Platform {
  return {
    fetch: (input, init) => fetch(input, init),
    WebSocket: globalThis.WebSocket,
    clock: {
      now: () => performance.now(),
      date: () => Date.now(),
      // Beyond the bound of timers they would fire at once.
      setTimeout: (run, ms) => setTimeout(run, Math.min(ms, limits.timer)),
      clearTimeout: (timer) => clearTimeout(timer as number),
    },
    storage: storage(),
    network: { id: networkId, listen },
    random: Math.random,
    unique: () => `${Math.random()}-${Math.random()}`,
  };
}

function storage(): Store | undefined {
  try {
    return globalThis.localStorage;
  } catch {
    // A page whose storage is blocked throws at the mere look.
    return undefined;
  }
}

interface Connection extends EventTarget {
  type?: string;
}

function connection(): Connection | undefined {
  return (globalThis.navigator as { connection?: Connection } | undefined)?.connection;
}

function networkId(): string {
  return connection()?.type ?? "";
}

function listen(tell: (event: "offline" | "network" | "shown") => void): () => void {
  const abort = new AbortController();
  const add = (target: EventTarget | undefined, name: string, run: (event: Event) => void): void => {
    // React Native has a window that is no event target.
    target?.addEventListener?.(name, run, { signal: abort.signal });
  };
  const { window, document } = globalThis as { window?: EventTarget; document?: Document };
  add(window, "offline", () => tell("offline"));
  add(window, "online", () => tell("network"));
  // A page from the back-forward cache has lost its connections, and may not have had an event.
  add(window, "pageshow", (event) => (event as PageTransitionEvent).persisted && tell("network"));
  add(document, "visibilitychange", () => document!.visibilityState === "visible" && tell("shown"));
  // It tells of every new estimate of the speed too.
  let id = networkId();
  add(connection(), "change", () => id !== (id = networkId()) && tell("network"));
  return () => abort.abort();
}
