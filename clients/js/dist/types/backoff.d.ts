import type { Clock } from "./platform.js";
/** Full jitter: anywhere from 0 to a bound that doubles. Spreads clients that lost the same broker evenly over time. */
export declare function fullJitter(failures: number, random: () => number): number;
/** Ends early, without an error, when the signal does. */
export declare function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void>;
/** What `throwIfAborted` does, which React Native's signals don't have; nor do they have reasons. */
export declare function throwIfAborted(signal: AbortSignal | null | undefined): void;
/** At once, if it is aborted already. */
export declare function onAbort(signal: AbortSignal | null | undefined, run: () => void): void;
