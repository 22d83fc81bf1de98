/** The token: fetched when needed, shared by all requests, replaced shortly before it ends and once after a 401. */
import { type Signal } from "./backoff.js";
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
export declare function tokensOf(source: TokenSource, clock: Clock, life: Signal): Tokens;
