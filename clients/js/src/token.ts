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

/** If the token is a JWT, it is replaced before it ends. Any other is replaced when the broker refuses it. */
export type TokenSource = (request: TokenRequest) => string | Promise<string>;

export interface Tokens {
  /** Gives a token to use, if there is a source; given one that was refused, another one. */
  give(refused?: string): Promise<string | undefined>;
  /** Resolves when what `give` gave last is to be replaced, or with the signal. */
  due(signal: Signal): Promise<void>;
  /** The time by which transports are judged: it stands still while the application looks for a token. */
  transport_time(): number;
}

/** `within` limits how long the source may take. */
export function tokensOf(
  source: TokenSource | undefined,
  clock: Clock,
  within: (ms: number, signal: Signal, run: (ended: AbortSignal) => Promise<string>) => Promise<string>,
): Tokens {
  let token: string | undefined;
  let renew_at = Infinity;
  let fetching: Promise<string> | undefined;
  let asked_at = 0;
  let waited_ms = 0;

  const ask = async (reason: TokenRequest["reason"]): Promise<string> => {
    asked_at = clock.now();
    try {
      token = await within(limits.token, undefined, async (signal) => source!({ reason, signal }));
    } catch (error) {
      throw new TailwireError("token", "no token was given", (error as Error).cause ?? error);
    } finally {
      waited_ms += clock.now() - asked_at;
      fetching = undefined;
      asked_at = 0;
    }
    const now = clock.now();
    const left = endOf(token) - now;
    // A short one is used for half of its life, but not for ever less of it, should the source give the same one again.
    // Where one ended long ago clocks differ, and the broker will judge.
    renew_at = left > 0 ? now + Math.max(left / 2, left - limits.token_early, limits.token_least) : Infinity;
    return token;
  };
  return {
    async give(refused) {
      // Whoever brings a token that was replaced meanwhile gets the one that replaced it.
      const reason = token === undefined ? "first" : token === refused ? "unauthorized" : renew_at <= clock.now() && "expires";
      // However many ask, it is fetched once.
      return source && reason ? (fetching ??= ask(reason)) : token;
    },
    // Some timers fire a moment too early.
    due: (signal) => sleep(clock, Math.min(renew_at + 1 - clock.now(), limits.timer), signal),
    transport_time: () => (asked_at || clock.now()) - waited_ms,
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
