/** Errors that a caller can branch on: by class, and by `code`, which is the broker's wherever the broker answered. */

/** Any error of the client. `code` is stable; `message` is for people. */
export class TailwireError extends Error {
  override name = "TailwireError";
  declare readonly code: string;
  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/** Nothing came back: no connection, a broken one, or no answer in time. */
export class NetworkError extends TailwireError {
  override name = "NetworkError";
}

/** The hub or the subscription was closed. */
export class ClosedError extends TailwireError {
  override name = "ClosedError";
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
export class ProblemError extends TailwireError {
  override name = "ProblemError";
  declare readonly status: number;
  declare readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.code, (problem.title ?? `HTTP ${problem.status}`) + (problem.detail ? `: ${problem.detail}` : ""));
    this.problem = problem;
    this.status = problem.status;
  }

  /** Whether the same request can succeed later (RFC 9110: 408, 429 and 5xx). */
  get temporary(): boolean {
    return /408|429|5../.test(`${this.status}`);
  }
}

/** 401 and 403: the token is missing, wrong, or not good for this. */
export class AccessError extends ProblemError {
  override name = "AccessError";
}

/** 410 on a page: messages after the cursor no longer exist. Go on after `from`, with `gap` set to `to`. */
export class GapError extends ProblemError {
  override name = "GapError";
  readonly from = this.problem.from!;
  readonly to = this.problem.to!;
  readonly reason = this.problem.reason!;
}

export function problemError(problem: Problem): ProblemError {
  const { status, code, from, to } = problem;
  const Kind = code === "gap" && from && to ? GapError : /40[13]/.test(`${status}`) ? AccessError : ProblemError;
  return new Kind(problem);
}
