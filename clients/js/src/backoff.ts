/** Waiting, and what ends it. */
import { emitterOf } from "./emitter.js";
import { ClosedError } from "./errors.js";
import * as limits from "./limits.js";
import type { Clock } from "./platform.js";

/** Full jitter: anywhere from 0 to a bound that doubles. Spreads clients that lost the same broker evenly over time. */
export function fullJitter(failures: number, random: () => number): number {
  return random() * Math.min(limits.backoff_max, limits.backoff_first * 2 ** failures);
}

/** What may end: the application's signal, or the life of a hub or a link. */
export type Signal = AbortSignal | Life | null | undefined;

/** The life of a hub or a link. Any number may wait for its end: of an `AbortSignal`, Node warns from the eleventh on. */
export interface Life {
  readonly aborted: boolean;
  readonly reason: unknown;
  on(name: "abort", run: () => void): () => void;
  end(reason?: unknown): void;
}

export function lifeOf(): Life {
  const { on, emit } = emitterOf<{ abort: void }>();
  const life = {
    aborted: false,
    reason: undefined as unknown,
    on,
    end(reason?: unknown) {
      life.aborted = true;
      life.reason = reason;
      emit("abort", undefined);
    },
  };
  return life;
}

/** Ends early, without an error, when the signal does. */
export function sleep(clock: Clock, ms: number, signal?: Signal): Promise<void> {
  return new Promise((resolve) => {
    let off: (() => void) | undefined;
    const done = (): void => {
      clock.clearTimeout(timer);
      off?.();
      resolve();
    };
    const timer = clock.setTimeout(done, ms);
    off = onAbort(signal, done);
  });
}

/** What `throwIfAborted` does, which React Native's signals don't have; nor do they have reasons. */
export function throwIfAborted(signal: Signal): void {
  if (signal?.aborted) throw signal.reason ?? new ClosedError("signal");
}

/** At once, if it is aborted already. Returns the function that forgets about it. */
export function onAbort(signal: Signal, run: () => void): () => void {
  if (signal?.aborted) run();
  if ((signal as Life | undefined)?.on) return (signal as Life).on("abort", run);
  const other = signal as AbortSignal | undefined;
  other?.addEventListener("abort", run);
  return () => other?.removeEventListener("abort", run);
}

/** Why something is given up that has been in its phase for so long. */
export function lateness(phase: number, ms: number): string {
  const why = ["no answer", "it opened, but its lines are held back: none", "no sign of life"];
  return `${why[phase]} came within ${Math.round(ms / 1000)} s`;
}
