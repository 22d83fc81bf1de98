import type { Clock } from "./platform.js";
/**
 * How long to wait before the next try, after an outage of so many milliseconds: anything from 0 to a share of it, within
 * bounds. So the client is back soon after the broker is, costs little while it isn't, and clients that lost the same
 * broker are spread over time.
 */
export declare function backoff(outage_ms: number, random: () => number): number;
/** How long somebody else wants the client to wait, as far as that can be taken seriously. */
export declare function told(ms: unknown): number | undefined;
/** What may end: the application's signal, or the lifetime of a hub or a link. */
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
/** What `throwIfAborted` does, which React Native's signals don't have; nor do they have reasons. */
export declare function throwIfAborted(signal: Signal): void;
/** At once, if it is aborted already. Returns the function that forgets about it. */
export declare function onAbort(signal: Signal, run: () => void): () => void;
/** Why something is given up that has been in its phase for so long. */
export declare function lateness(phase: number, ms: number): string;
