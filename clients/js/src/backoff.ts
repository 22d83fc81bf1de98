/** Waiting. */
import { ClosedError } from "./errors.js";
import * as limits from "./limits.js";
import type { Clock } from "./platform.js";

/** Full jitter: anywhere from 0 to a bound that doubles. Spreads clients that lost the same broker evenly over time. */
export function fullJitter(failures: number, random: () => number): number {
  return random() * Math.min(limits.backoff_max, limits.backoff_first * 2 ** failures);
}

/** Ends early, without an error, when the signal does. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clock.clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = clock.setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}

/** What `throwIfAborted` does, which React Native's signals don't have; nor do they have reasons. */
export function throwIfAborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted) throw signal.reason ?? new ClosedError("signal");
}

/** At once, if it is aborted already. */
export function onAbort(signal: AbortSignal | null | undefined, run: () => void): void {
  if (signal?.aborted) run();
  else signal?.addEventListener("abort", run);
}
