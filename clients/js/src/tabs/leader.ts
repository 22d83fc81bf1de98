/** The tab that leads: it has the connection, and answers the other tabs, and itself, in the broker's stead. */
import type { ProblemError } from "../errors.js";
import type { Hub } from "../hub.js";
import type { SubscribeOptions, Subscription } from "../subscription.js";
import type { Line } from "../wire.js";
import { hold, type Channel, type Room, type Announcement } from "./room.js";

/** Leads, until the returned function is called. */
export function lead(room: Room, hub: Hub): () => void {
  const said: Announcement = { leader: room.unique(), state: hub.state, to: undefined, why: "" };
  const common = room.open(room.name);
  /** The function that ends each session, by the name of its channel. */
  const sessions = new Map<string, () => void>();
  const say = (news: Partial<Announcement>): void => common.postMessage(Object.assign(said, news));
  const stops = [hub.on("state", (state) => say({ state })), hub.on("transport", ({ to, why }) => say({ to, why }))];

  common.onmessage = ({ data: { hello } }) => {
    if (!hello || sessions.has(hello)) return;
    const channel = room.open(hello);
    const subscriptions = new Map<number, Subscription>();
    channel.onmessage = ({ data }) => {
      const line = JSON.parse(data) as Line;
      if (line.kind === "subscribe") subscribe(hub, line, subscriptions, channel);
      else if (line.kind === "unsubscribe") {
        subscriptions.get(line.sub!)?.close();
        subscriptions.delete(line.sub!);
      }
      else channel.postMessage([line]);
    };
    const end = (): void => {
      sessions.delete(hello);
      for (const subscription of subscriptions.values()) subscription.close();
      channel.close();
      leave();
    };
    sessions.set(hello, end);
    const leave = hold(room, hello, end);
    channel.postMessage([{ ...said, kind: "welcome" }]);
  };
  say({});
  return () => {
    for (const stop of [...stops, ...sessions.values()]) stop();
    common.close();
  };
}

/** A subscription of another tab, as one of this tab's hub. */
function subscribe(hub: Hub, line: Line, subscriptions: Map<number, Subscription>, channel: Channel): void {
  const { topic, after, last } = line;
  const id = line.id!;
  let answered = false;
  /** The first line brings the answer with it. If it is a message, the exact start is unknown. */
  const tell = (kind: string, value: { cursor?: string }): void => {
    const own = { ...value, kind, sub: id };
    channel.postMessage(answered ? [own] : [{ kind: "ok", id, cursor: kind === "message" ? undefined : value.cursor }, own]);
    answered = true;
  };
  const failed = (error: unknown): void => {
    const { code, message, problem } = error as ProblemError;
    // Later on there is no answer left that could say so; a tab that asks again gets one.
    const answer = { ...(problem ?? { status: 400, code, title: message }), kind: "error", id };
    channel.postMessage([answered ? { kind: "bye", retry_after_ms: 0, reason: message } : answer]);
  };
  try {
    const subscription = hub.subscribe(topic as unknown as string[], { after, last } as SubscribeOptions);
    subscriptions.set(id, subscription);
    subscription.on("error", failed);
    subscription.on("moved", (value) => tell("heartbeat", value));
    for (const kind of ["gap", "caught_up", "message"] as const) subscription.on(kind, (value: object) => tell(kind, value));
  } catch (error) {
    failed(error);
  }
}
