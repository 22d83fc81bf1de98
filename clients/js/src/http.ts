/** Plain requests: addresses, the token, time limits, and problems as errors. Knows nothing of subscriptions. */
import { lateness, onAbort, sleep, boundedWait, throwIfAborted, type Lifetime, type Signal } from "./backoff.js";
import { GapError, NetworkError, ProblemError, TailwireError, problemError, type Problem } from "./errors.js";
import * as limits from "./limits.js";
import type { Platform } from "./platform.js";
import { tokensOf, type TokenSource, type Tokens } from "./token.js";

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
  whole<T = Page>(path: string, init: Omit<RequestInit, "signal"> & { signal?: Signal }, timeout?: number, read?: (answer: any) => T): Promise<T>;
  /** Why the broker refuses everything of this page's origin, or for this host; asked until something is answered. */
  refusal(): Promise<ProblemError | undefined>;
  /** Does something that ends, at the latest, after this time, with the signal or with the hub: then `ended` is aborted. */
  within<T>(ms: number, signal: Signal, run: (ended: AbortSignal) => Promise<T>): Promise<T>;
}

/** Requests that are under way end with the `lifetime` of their hub. `answers` is called for each that is answered. */
export function httpOf(base: URL, { fetch, clock }: Platform, source: TokenSource | undefined, lifetime: Lifetime, answers: () => void): Http {
  const url = (path: string): string => new URL(path, base).href;

  const within: Http["within"] = async (ms, signal, run) => {
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    const ends = [lifetime, signal];
    const offs = ends.map((end) => onAbort(end, stop));
    try {
      ends.forEach(throwIfAborted);
      const late = sleep(clock, ms, abort.signal).then(() => {
        throw new NetworkError("network", lateness(0, ms));
      });
      return await Promise.race([run(abort.signal), late]);
    } catch (error) {
      ends.forEach(throwIfAborted);
      throw toError(error);
    } finally {
      stop();
      for (const off of offs) off();
    }
  };

  const { give, due, wait } = tokensOf(source, clock, within);

  const authorized: Http["authorized"] = async (signal, run) => {
    // The source has a time limit of its own.
    const given = (refused?: string): Promise<string | undefined> => within(limits.timer, signal, () => give(refused));
    const token = await given();
    try {
      return await run(token);
    } catch (error) {
      if (!token || (error as ProblemError).status !== 401) throw error;
      return run(await given(token));
    }
  };

  /** Something that a page of this origin can read was answered. */
  let reached = false;

  const ask = async (path: string, init: RequestInit, token?: string): Promise<Response> => {
    // A query that is too long for a URL is sent as the body.
    const [resource, query] = path.length > limits.path_length ? path.split("?") : [path];
    const response = await fetch(url(resource!), {
      ...init,
      ...(query && { method: "QUERY", body: new URLSearchParams(query) }),
      // Without a token there is none, so that a request can be a simple one (Fetch standard).
      headers: { ...init.headers, ...(token && { authorization: `Bearer ${token}` }) },
      // A redirect could lead the token to another origin.
      redirect: "error",
      // The broker permits none.
      credentials: "omit",
      // Some browsers let equal requests wait for each other, to answer all from the first one's answer.
      cache: "no-store",
    });
    reached = response.status !== 403;
    if (response.ok) {
      answers();
      return response;
    }
    // Else it is a page of a proxy, or nothing at all.
    const problem = (await response.json().catch(() => {})) as Problem | undefined;
    const value = response.headers.get("retry-after")!;
    // Seconds or a date (RFC 9110 §10.2.3).
    const retry_after_ms = boundedWait(Number(value) * 1000 || Date.parse(value) - clock.date());
    throw problemError({ code: "http", retry_after_ms, ...problem, status: response.status });
  };

  // A page whose origin isn't allowed can read nothing but the answer to this: a `POST` of nothing is sent without a
  // preflight, and every origin may read that it is refused.
  const refusal = async (): Promise<ProblemError | undefined> => {
    const error = reached || (await within(limits.answer, undefined, (signal) => ask("stream", { method: "POST", signal })).catch((error: unknown) => error));
    return /^foreign/.test((error as ProblemError).code) ? (error as ProblemError) : undefined;
  };

  const answer: typeof ask = (path, init, token) =>
    ask(path, init, token).catch(async (error: ProblemError) => {
      throw error.status ? error : ((await refusal()) ?? error);
    });

  return {
    url,
    within,
    authorized,
    due,
    wait,
    refusal,
    answered: (path, init) => authorized(init.signal, (token) => answer(path, init, token)),
    whole: (path, { signal, ...init }, timeout = limits.answer, read = (answer) => answer) =>
      authorized(signal, (token) => within(timeout, signal, async (ended) => read(await (await answer(path, { ...init, signal: ended }, token)).json()))),
  };
}

/** Errors of `fetch` say little and differ between browsers; ours pass. */
export function toError(error: unknown): TailwireError {
  return error instanceof TailwireError ? error : new NetworkError("network", "the request failed", error);
}

/** The wait that the broker, or an intermediary, asked for. Zero without a token: no transport is to blame. */
export function retryAfter(error: unknown): number | undefined {
  if ((error as TailwireError).code === "token") return 0;
  return error instanceof ProblemError && error.temporary ? error.problem.retry_after_ms : undefined;
}

/** Whether the broker itself refused for good. The refusal of an intermediary isn't final: another transport may pass. */
export function refused(error: unknown): error is ProblemError {
  return error instanceof ProblemError && !error.temporary && error.code !== "http" && !(error instanceof GapError);
}
