/** Errors that a caller can branch on: by class, and by `code`, which is the broker's wherever the broker answered. */
/** Any error of the client. `code` is stable; `message` is for people. */
export declare class TailwireError extends Error {
    name: string;
    readonly code: string;
    constructor(code: string, message: string, cause?: unknown);
}
/** Nothing came back: no connection, a broken one, or no answer in time. */
export declare class NetworkError extends TailwireError {
    name: string;
}
/** The hub or the subscription was closed. */
export declare class ClosedError extends TailwireError {
    name: string;
}
/** The problem of an answer (RFC 9457), by the broker or an intermediary. */
export interface Problem {
    status: number;
    code: string;
    title?: string;
    detail?: string;
    parameter?: string;
    line?: number;
    cursor?: string;
    from?: string;
    to?: string;
    reason?: string;
    retry_after_ms?: number | undefined;
}
/** The broker answered, and the answer is no. */
export declare class ProblemError extends TailwireError {
    name: string;
    readonly status: number;
    readonly problem: Problem;
    constructor(problem: Problem);
    /** Whether the same request can succeed later (RFC 9110: 408, 429 and 5xx). */
    get temporary(): boolean;
}
/** 401 and 403: the token is missing, wrong, or not good for this. */
export declare class AccessError extends ProblemError {
    name: string;
}
/** 410 on a page: messages after the cursor no longer exist. Go on after `from`, with `gap` set to `to`. */
export declare class GapError extends ProblemError {
    name: string;
    readonly from: string;
    readonly to: string;
    readonly reason: string;
}
export declare function problemError(problem: Problem): ProblemError;
