import { ProblemError, TailwireError } from "./errors.js";
import type { Platform } from "./platform.js";
import type { Tokens } from "./token.js";
/** A page, as the broker gives it. */
export interface Page {
    messages: object[];
    cursor: string;
    more: boolean;
    retry_after_ms?: number;
}
export declare class Http {
    #private;
    constructor(base: URL, platform: Platform, tokens: Tokens | undefined);
    url(path: string): string;
    /** Does something with a token, if there are tokens; and once more with another, if the first was refused. */
    authorized<T>(run: (token?: string) => Promise<T>): Promise<T>;
    /** The answer of a 2xx; anything else is an error. The body is left unread. */
    send(path: string, init: RequestInit): Promise<Response>;
    /** The whole answer, within a time limit. */
    json<T = Page>(path: string, init: RequestInit, timeout?: number): Promise<T>;
}
/** Errors of `fetch` say little and differ between browsers; ours pass. */
export declare function toError(error: unknown): TailwireError;
/** How long the broker, or whoever answers in its place, wants to be left alone. */
export declare function retryAfter(error: unknown): number | undefined;
/** Whether the broker itself refused for good. A word of something else on the way isn't final: another rung may pass. */
export declare function refused(error: unknown): error is ProblemError;
