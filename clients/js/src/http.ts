/** Plain requests: addresses, the token, time limits, and problems as errors. Knows nothing of subscriptions. */
import { onAbort, sleep, throwIfAborted } from "./backoff.js";
import { GapError, NetworkError, ProblemError, TailwireError, problemError, type Problem } from "./errors.js";
import * as limits from "./limits.js";
import type { Platform } from "./platform.js";
import type { Tokens } from "./token.js";

/** A page, as the broker gives it. */
export interface Page {
  messages: object[];
  cursor: string;
  more: boolean;
  retry_after_ms?: number;
}

export class Http {
  readonly #base: URL;
  readonly #platform: Platform;
  readonly #tokens: Tokens | undefined;

  constructor(base: URL, platform: Platform, tokens: Tokens | undefined) {
    this.#base = base;
    this.#platform = platform;
    this.#tokens = tokens;
  }

  url(path: string): string {
    return new URL(path, this.#base).href;
  }

  /** Does something with a token, if there are tokens; and once more with another, if the first was refused. */
  async authorized<T>(run: (token?: string) => Promise<T>): Promise<T> {
    const token = await this.#tokens?.();
    try {
      return await run(token);
    } catch (error) {
      if (!token || !(error instanceof ProblemError) || error.status !== 401) throw error;
      return run(await this.#tokens!(token));
    }
  }

  /** The answer of a 2xx; anything else is an error. The body is left unread. */
  send(path: string, init: RequestInit): Promise<Response> {
    return this.authorized(async (token) => {
      const response = await this.#platform.fetch(this.url(path), {
        ...init,
        headers: { ...init.headers, ...(token && { authorization: `Bearer ${token}` }) },
        // A redirect could lead the token to another origin.
        redirect: "error",
        // The broker permits none.
        credentials: "omit",
        // Some browsers let equal requests wait for each other, to answer all from the first one's answer.
        cache: "no-store",
      });
      if (!response.ok) throw problemError(await readProblem(response));
      return response;
    });
  }

  /** The whole answer, within a time limit. */
  async json<T = Page>(path: string, init: RequestInit, timeout: number = limits.request): Promise<T> {
    const { signal } = init;
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    onAbort(signal, stop);
    const work = this.send(path, { ...init, signal: abort.signal }).then((response) => response.json() as Promise<T>);
    // The limit is for what comes before the request too: the token.
    const late = sleep(this.#platform.clock, timeout, abort.signal).then(() => {
      throw new NetworkError(`no answer within ${timeout / 1000} s`);
    });
    try {
      return await Promise.race([work, late]);
    } catch (error) {
      throwIfAborted(signal);
      throw toError(error);
    } finally {
      stop();
      signal?.removeEventListener("abort", stop);
    }
  }
}

/** Errors of `fetch` say little and differ between browsers; ours pass. */
export function toError(error: unknown): TailwireError {
  return error instanceof TailwireError ? error : new NetworkError("the request failed", error);
}

/** How long the broker, or whoever answers in its place, wants to be left alone. */
export function retryAfter(error: unknown): number | undefined {
  return error instanceof ProblemError && error.temporary ? error.problem.retry_after_ms : undefined;
}

/** Whether the broker itself refused for good. A word of something else on the way isn't final: another rung may pass. */
export function refused(error: unknown): error is ProblemError {
  return error instanceof ProblemError && !error.temporary && error.code !== "http" && !(error instanceof GapError);
}

async function readProblem(response: Response): Promise<Problem> {
  // Else it is a page of a proxy, or nothing at all.
  const problem = (await response.json().catch(() => {})) as Problem | undefined;
  const after = Number(response.headers.get("retry-after"));
  return { code: "http", ...(after && { retry_after_ms: after * 1000 }), ...problem, status: response.status };
}
