/** Waiting, and what ends it. */
import { ClosedError } from "./errors.js";
import * as limits from "./limits.js";
import type { Clock } from "./platform.js";

/**
 * How long to wait before the next try, after an outage of so many milliseconds: anything from 0 to a share of it, within
 * bounds. So the client is back soon after the broker is, costs little while it isn't, and clients that lost the same
 * broker are spread over time.
 */
export function backoff(outage_ms: number, random: () => number): number {
  return random() * Math.min(limits.backoff_max, Math.max(limits.backoff_min, outage_ms / limits.backoff_share));
}

/** A wait that the other side asked for, bounded; undefined if it is no time. */
export function boundedWait(ms: unknown): number | undefined {
  return (ms as number) >= 0 ? Math.min(ms as number, limits.wait_max) : undefined;
}

/** A signal that ends work: the application's, or the lifetime of a hub or a link. */
export type Signal = AbortSignal | Lifetime | null | undefined;

/** The lifetime of a hub or a link. Any number may wait for its end: of an `AbortSignal`, Node warns from the eleventh on. */
export interface Lifetime {
  aborted: boolean;
  addEventListener(name: "abort", run: () => void): void;
  removeEventListener(name: "abort", run: () => void): void;
  end(): void;
}

export function lifetimeOf(): Lifetime {
  const runs = new Set<() => void>();
  const lifetime: Lifetime = {
    aborted: false,
    addEventListener: (_, run) => runs.add(run),
    removeEventListener: (_, run) => runs.delete(run),
    end() {
      lifetime.aborted = true;
      runs.forEach((run) => run());
    },
  };
  return lifetime;
}

/** Ends early, without an error, when the signal does. */
export async function sleep(clock: Clock, ms: number, signal?: Signal): Promise<void> {
  let timer: unknown;
  let off: (() => void) | undefined;
  await new Promise<void>((done) => {
    timer = clock.setTimeout(done, ms);
    off = onAbort(signal, done);
  });
  clock.clearTimeout(timer);
  off!();
}

/** The `throwIfAborted` of signals, for those of React Native, which have neither it nor reasons. */
export function throwIfAborted(signal: Signal): void {
  if (signal?.aborted) throw (signal as AbortSignal).reason ?? new ClosedError("closed", "it was closed");
}

/** At once, if it is aborted already. Returns the function that forgets about it. */
export function onAbort(signal: Signal, run: () => void): () => void {
  if (signal?.aborted) run();
  signal?.addEventListener("abort", run);
  return () => signal?.removeEventListener("abort", run);
}

/** The reason to give up an attempt that has been in its phase for so long. */
export function lateness(phase: number, ms: number): string {
  const why = ["no answer", "it opened, but lines are held back: none", "no sign of life"];
  return `${why[phase]} came within ${ms / 1000} s`;
}
