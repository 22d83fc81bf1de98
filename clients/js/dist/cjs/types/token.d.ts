/** The token: fetched when needed, shared by all requests, replaced shortly before it ends and once after a 401. */
import { type Signal } from "./backoff.js";
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
export declare function tokensOf(source: TokenSource | undefined, clock: Clock, within: (ms: number, signal: Signal, run: (ended: AbortSignal) => Promise<string>) => Promise<string>): Tokens;
