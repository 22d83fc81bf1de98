/** One WebSocket for all subscriptions, each by its own id, and for requests. */
import { onAbort } from "../backoff.js";
import { problemError, type Problem, type ProblemError } from "../errors.js";
import { refused } from "../http.js";
import { Kind } from "../fallback.js";
import * as limits from "../limits.js";
import type { Socket } from "../platform.js";
import type { Feed } from "../subscription.js";
import { parseLine, type Line } from "../wire.js";
import { baseOf, type Link, type Surroundings, type Tell } from "./link.js";

interface Entry {
  id: number;
  feed: Feed;
  generation: number;
  answered: boolean;
}

interface Pending {
  done(line: Line): void;
  fail(error: unknown): void;
}

/** Lines without a tag are for those that caught up; these are `attached`. */
export function webSocketLink(feeds: readonly Feed[], { WebSocket, http }: Surroundings, tell: Tell): Link {
  const { attached, lifetime, alive, end, failed } = baseOf(tell);
  const pending = new Map<number, Pending | undefined>();
  const entries = new Map<Feed, Entry>();
  let socket: Socket;
  let wanted = feeds;
  let ids = 0;
  let ready = false;
  let up = false;

  const connect = async (): Promise<void> => {
    socket = new WebSocket!(http.url("stream").replace(/^http/, "ws"), "tailwire.v1");
    onAbort(lifetime, () => socket.close(1000));
    let opened = false;
    socket.onopen = () => {
      opened = true;
      if (!lifetime.aborted) tell({ kind: Kind.Opened });
    };
    // Another tab gives lines as they are.
    socket.onmessage = ({ data }) => receive(typeof data === "string" ? parseLine(data) : (data as Line));
    socket.onclose = async ({ code, reason }) => {
      const why = `${opened ? "it was closed" : "the handshake failed"} (${code}${reason && ` ${reason}`})`;
      // Some codes say whether and when to come back. No script learns why a handshake failed.
      const error = code === 1008 ? problemError({ status: 403, code: "closed", title: why }) : opened ? undefined : await http.refusal();
      if (error) failed(error, wanted);
      else end(why, /101[23]/.test(code) ? limits.come_back : undefined);
    };
    // A close follows each error; but a library may throw where there is no listener.
    socket.onerror = () => {};
  };
  // The broker gives a new connection ten seconds to authenticate: the token is there before. Where a policy of the page
  // forbids it, connecting throws.
  http.authorized(lifetime, connect).catch((error: unknown) => failed(error, []));

  return { attached, sync, request, close: lifetime.end };

  function sync(feeds: readonly Feed[]): boolean {
    wanted = feeds;
    if (!ready) return true;
    for (const entry of [...entries.values()]) {
      if (!feeds.includes(entry.feed) || entry.generation !== entry.feed.generation) unsubscribe(entry);
    }
    for (const feed of feeds) if (!entries.has(feed)) subscribe(feed);
    check();
    return true;
  }

  function request(line: object): Promise<Line> {
    return http.within(limits.opening, lifetime, () => new Promise((done, fail) => send(line, { done, fail })));
  }

  function send(line: object, answer?: Pending): number {
    const id = ++ids;
    pending.set(id, answer);
    socket.send(JSON.stringify({ id, ...line }));
    return id;
  }

  function receive(line: Line | undefined): void {
    if (lifetime.aborted || !line) return;
    const { kind } = line;
    alive(kind === "message", false);
    if (kind === "welcome") welcome(line).catch((error: unknown) => failed(error, wanted));
    else if (kind === "bye") end(`bye: ${line.reason}`, line.retry_after_ms);
    else if (kind === "ok" || kind === "error") answered(line);
    else if (line.sub === undefined) attached.line(line);
    else tagged(line);
  }

  function answered(line: Line): void {
    const answer = pending.get(line.id!);
    pending.delete(line.id!);
    if (line.kind === "ok") answer?.done(line);
    else answer?.fail(problemError(line as unknown as Problem));
  }

  async function welcome({ authenticate }: Line): Promise<void> {
    // The token goes in a line: scripts can't set headers here, and addresses end up in logs.
    const identify = (): Promise<unknown> => http.authorized(lifetime, async (token) => token && request({ kind: "authenticate", token }));
    const known = authenticate && (await identify());
    if (lifetime.aborted) return;
    ready = true;
    sync(wanted);
    while (known) await http.due(lifetime).then(identify);
  }

  function subscribe(feed: Feed): void {
    const asked = feed.position;
    const entry: Entry = { id: 0, feed, generation: feed.generation, answered: false };
    entries.set(feed, entry);
    const done = ({ cursor }: Line): void => {
      if (entries.get(feed) !== entry) return;
      entry.answered = true;
      if (!asked && feed.position && !(cursor! <= feed.position)) {
        // Another link found an earlier start first; from here, messages in between would be missed.
        unsubscribe(entry);
        subscribe(feed);
      } else if (!asked && cursor) {
        feed.move(cursor);
      }
      check();
    };
    const fail = (error: unknown): void => {
      if (entries.get(feed) !== entry || lifetime.aborted) return;
      entries.delete(feed);
      // Too many of them is no fault of the others.
      if (!refused(error) && (error as ProblemError).code !== "subscriptions-too-many") return failed(error, []);
      feed.fail(error as ProblemError);
      check();
    };
    entry.id = send({ kind: "subscribe", topic: feed.topics, ...feed.ask() }, { done, fail });
  }

  function unsubscribe({ feed, id }: Entry): void {
    entries.delete(feed);
    send({ kind: "unsubscribe", sub: id });
  }

  /** It delivers once the broker has answered all subscriptions: the way is open in both directions. */
  function check(): void {
    if (up || ![...entries.values()].every(({ answered }) => answered)) return;
    up = true;
    alive(false);
  }

  function tagged(line: Line): void {
    const entry = [...entries.values()].find(({ id }) => id === line.sub);
    if (!entry) return;
    const { feed } = entry;
    entry.generation = feed.line(entry.generation, line);
    if (line.kind === "caught_up" && feed.generation === entry.generation) attached.add(feed);
  }
}
