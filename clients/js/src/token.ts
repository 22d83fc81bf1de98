/** The token: fetched when needed, shared by all requests, replaced shortly before it ends and once after a 401. */
import { sleep, type Signal } from "./backoff.js";
import { TailwireError } from "./errors.js";
import * as limits from "./limits.js";
import type { Clock } from "./platform.js";

export interface TokenRequest {
  /** Why a token is asked for: the first one, the last one is about to end, or the broker refused it. */
  reason: "first" | "expires" | "unauthorized";
  /** Aborted when the hub is closed, or when it took too long. */
  signal: AbortSignal;
}

/** The token, or a function that gives it. If it is a JWT, it is replaced before it ends. Any other is replaced when the broker refuses it. */
export type TokenSource = string | ((request: TokenRequest) => string | Promise<string>);

export interface Tokens {
  /** Gives a token to use, if there is a source; given one that was refused, another one. */
  give(refused?: string): Promise<string | undefined>;
  /** Resolves when what `give` gave last is to be replaced, or with the signal. */
  due(signal: Signal): Promise<void>;
  /** For how long, all in all, the application has been looking for a token. */
  wait(): number;
}

/** `within` limits how long the source may take. */
export function tokensOf(
  source: TokenSource | undefined,
  clock: Clock,
  within: (ms: number, signal: Signal, run: (ended: AbortSignal) => Promise<string>) => Promise<string>,
): Tokens {
  let token: string | undefined;
  let renew_at = Infinity;
  /** The last answer of the source. All that need a token share it, also a failure, until `again_at`. */
  let asked: Promise<string>;
  let again_at = -Infinity;
  let wait_ms = 0;

  const ask = async (reason: TokenRequest["reason"]): Promise<string> => {
    const old = token;
    again_at = Infinity;
    wait_ms -= clock.now();
    try {
      token = await within(limits.token, undefined, async (signal) => (typeof source === "function" ? source({ reason, signal }) : source!));
    } catch (error) {
      // The old one is good until it ends.
      if (reason !== "expires" || endOf(token!) <= clock.date()) throw new TailwireError("token", "no token", (error as Error).cause ?? error);
    } finally {
      wait_ms += clock.now();
      again_at = clock.now() + (token === old ? limits.token_pause : 0);
    }
    const left = endOf(token!) - clock.date();
    // A short one is used for half of its lifetime.
    // Where one ended long ago clocks differ, and the broker will judge.
    renew_at = left > 0 ? Math.max(again_at, clock.now() + Math.max(left / 2, left - limits.token_early)) : Infinity;
    return token!;
  };
  return {
    async give(refused) {
      // A caller with a token that was replaced meanwhile gets the one that replaced it.
      const reason = token === undefined ? "first" : token === refused ? "unauthorized" : renew_at <= clock.now() && "expires";
      if (!source || !reason) return token;
      return clock.now() < again_at ? asked : (asked = ask(reason));
    },
    // Some timers fire a moment too early.
    due: (signal) => sleep(clock, Math.min(renew_at + 1 - clock.now(), limits.timer), signal),
    wait: () => (again_at < Infinity ? wait_ms : wait_ms + clock.now()),
  };
}

/** Milliseconds since 1970. */
function endOf(token: string): number {
  try {
    const claims = JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))) as { exp: number };
    return claims.exp * 1000 || Infinity;
  } catch {
    return Infinity;
  }
}
