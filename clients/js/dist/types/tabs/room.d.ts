/** Where the tabs of a browser meet, each part replaceable; the only file of these that touches globals. */
import type { Clock, Platform } from "../platform.js";
import type { Transport, State } from "../fallback.js";
/** `navigator.locks`, as far as it is needed. */
export interface Locks {
    request(name: string, options: {
        signal?: AbortSignal;
    }, run: () => Promise<unknown>): Promise<unknown>;
}
/** A `BroadcastChannel`, as far as it is needed. A post reaches all others of its name, also those of the same tab. */
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
    /** The name of the lock that the leader holds, and of the common channel. */
    name: string;
    locks: Locks;
    open(name: string): Channel;
    clock: Clock;
    unique: () => string;
}
/** The leader's announcement: itself and the state of its connection. */
export interface Announcement {
    leader: string;
    state: State;
    to: Transport | undefined;
    why: string;
}
/** Undefined where the browser has no such thing, or keeps it from a page that isn't secure. */
export declare function roomOf(name: string, { locks, BroadcastChannel }: RoomOptions, { clock, unique }: Platform): Room | undefined;
/** Holds a lock until the returned function is called. `acquired` runs once it is acquired. */
export declare function hold({ locks }: Room, name: string, acquired: () => void): () => void;
