/** Where the tabs of a browser meet, each part replaceable; the only file of these that touches globals. */
import type { Clock, Platform } from "../platform.js";
import type { Transport, State } from "../fallback.js";

/** `navigator.locks`, as far as it is needed. */
export interface Locks {
  request(name: string, options: { signal?: AbortSignal }, run: () => Promise<unknown>): Promise<unknown>;
}

/** A `BroadcastChannel`, as far as it is needed. What one posts all others of its name hear, also those of the same tab. */
export interface Channel {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(data: unknown): void;
  close(): void;
}

export interface RoomOptions {
  locks?: Locks | undefined;
  BroadcastChannel?: (new (name: string) => Channel) | undefined;
}

export interface Room {
  /** That of the lock which the leader holds, and of the channel on which all meet. */
  name: string;
  locks: Locks;
  open(name: string): Channel;
  clock: Clock;
  unique: () => string;
}

/** What the leader says of itself and of its connection, to all. */
export interface Said {
  leader: string;
  state: State;
  to: Transport | undefined;
  why: string;
}

/** Undefined where the browser has no such thing, or keeps it from a page that isn't secure. */
export function roomOf(
  name: string,
  { locks = globalThis.navigator?.locks as Locks | undefined, BroadcastChannel = globalThis.BroadcastChannel }: RoomOptions,
  { clock, unique }: Platform,
): Room | undefined {
  return locks && BroadcastChannel && { name, locks, open: (channel) => new BroadcastChannel(channel), clock, unique };
}

/** Holds a lock until the returned function is called. `held` runs as soon as it is had. */
export function hold({ locks }: Room, name: string, held: () => void): () => void {
  const abort = new AbortController();
  let release = (): void => abort.abort();
  const run = (): Promise<void> =>
    new Promise((resolve) => {
      release = resolve;
      held();
    });
  locks.request(name, { signal: abort.signal }, run).catch(() => {});
  return () => release();
}
