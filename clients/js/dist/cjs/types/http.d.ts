/** Plain requests: addresses, the token, time limits, and problems as errors. Knows nothing of subscriptions. */
import { type Lifetime, type Signal } from "./backoff.js";
import { ProblemError, TailwireError } from "./errors.js";
import type { Platform } from "./platform.js";
import { type TokenSource, type Tokens } from "./token.js";
/** A page, as the broker gives it. */
export interface Page {
    messages: object[];
    cursor: string;
    more: boolean;
    retry_after_ms?: number;
}
export interface Http extends Pick<Tokens, "due" | "wait"> {
    url(path: string): string;
    /** Does something with a token, if there are tokens; and once more with another, if the first was refused. */
    authorized<T>(signal: Signal, run: (token?: string) => Promise<T>): Promise<T>;
    /** The answer of a 2xx; anything else is an error. The body is left unread. */
    answered(path: string, init: RequestInit): Promise<Response>;
    /** The whole answer, within a time limit, which is for the request alone. */
    whole<T = Page>(path: string, init: Omit<RequestInit, "signal"> & {
        signal?: Signal;
    }, timeout?: number, read?: (answer: any) => T): Promise<T>;
    /** Why the broker refuses everything of this page's origin, or for this host; asked until something is answered. */
    refusal(): Promise<ProblemError | undefined>;
    /** Does something that ends, at the latest, after this time, with the signal or with the hub: then `ended` is aborted. */
    within<T>(ms: number, signal: Signal, run: (ended: AbortSignal) => Promise<T>): Promise<T>;
}
/** Requests that are under way end with the `lifetime` of their hub. `answers` is called for each that is answered. */
export declare function httpOf(base: URL, { fetch, clock }: Platform, source: TokenSource | undefined, lifetime: Lifetime, answers: () => void): Http;
/** Errors of `fetch` say little and differ between browsers; ours pass. */
export declare function toError(error: unknown): TailwireError;
/** The wait that the broker, or an intermediary, asked for. Zero without a token: no transport is to blame. */
export declare function retryAfter(error: unknown): number | undefined;
/** Whether the broker itself refused for good. The refusal of an intermediary isn't final: another transport may pass. */
export declare function refused(error: unknown): error is ProblemError;
