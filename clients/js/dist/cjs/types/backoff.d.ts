import type { Clock } from "./platform.js";
/**
 * How long to wait before the next try, after an outage of so many milliseconds: anything from 0 to a share of it, within
 * bounds. So the client is back soon after the broker is, costs little while it isn't, and clients that lost the same
 * broker are spread over time.
 */
export declare function backoff(outage_ms: number, random: () => number): number;
/** A wait that the other side asked for, bounded; undefined if it is no time. */
export declare function boundedWait(ms: unknown): number | undefined;
/** A signal that ends work: the application's, or the lifetime of a hub or a link. */
export type Signal = AbortSignal | Lifetime | null | undefined;
/** The lifetime of a hub or a link. Any number may wait for its end: of an `AbortSignal`, Node warns from the eleventh on. */
export interface Lifetime {
    aborted: boolean;
    addEventListener(name: "abort", run: () => void): void;
    removeEventListener(name: "abort", run: () => void): void;
    end(): void;
}
export declare function lifetimeOf(): Lifetime;
/** Ends early, without an error, when the signal does. */
export declare function sleep(clock: Clock, ms: number, signal?: Signal): Promise<void>;
/** The `throwIfAborted` of signals, for those of React Native, which have neither it nor reasons. */
export declare function throwIfAborted(signal: Signal): void;
/** At once, if it is aborted already. Returns the function that forgets about it. */
export declare function onAbort(signal: Signal, run: () => void): () => void;
/** The reason to give up an attempt that has been in its phase for so long. */
export declare function lateness(phase: number, ms: number): string;
