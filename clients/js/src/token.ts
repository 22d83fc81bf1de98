/** The token: fetched when needed, shared by all requests, replaced shortly before it ends and once after a 401. */
import { onAbort, type Signal } from "./backoff.js";
import { TailwireError } from "./errors.js";
import * as limits from "./limits.js";
import type { Clock } from "./platform.js";

export interface TokenRequest {
  /** Why a token is asked for: the first one, the last one is about to end, or the broker refused it. */
  reason: "first" | "expires" | "unauthorized";
  /** Aborted when the hub is closed. */
  signal: AbortSignal;
}

/** If the token is a JWT, it is replaced before it ends. Any other is replaced when the broker refuses it. */
export type TokenSource = (request: TokenRequest) => string | Promise<string>;

/** Gives a token to use; given one that was refused, another one. */
export type Tokens = (refused?: string) => Promise<string>;

export function tokensOf(source: TokenSource, clock: Clock, life: Signal): Tokens {
  let token: string | undefined;
  let renew_at: number;
  const abort = new AbortController();
  onAbort(life, () => abort.abort());
  let fetching: Promise<string> | undefined;

  const ask = async (reason: TokenRequest["reason"]): Promise<string> => {
    try {
      token = await source({ reason, signal: abort.signal });
    } catch (error) {
      throw new TailwireError("token", "no token was given", error);
    }
    const now = clock.now();
    const left = endOf(token) - now;
    // A short one is used for half of its life. Where one ended long ago clocks differ, and the broker will judge.
    renew_at = left > 0 ? now + Math.max(left / 2, left - limits.token_early) : Infinity;
    return token;
  };
  // However many ask, it is fetched once.
  const fetch = (reason: TokenRequest["reason"]): Promise<string> => (fetching ??= ask(reason).finally(() => (fetching = undefined)));

  return async (refused) => {
    if (token === undefined) return fetch("first");
    // Whoever brings a token that was replaced meanwhile gets the one that replaced it.
    if (token === refused) return fetch("unauthorized");
    return renew_at < clock.now() ? fetch("expires") : token;
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
