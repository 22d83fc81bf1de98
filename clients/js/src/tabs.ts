/**
 * Tabs of one browser share one connection: `connect(url, { tabs: tabs() })`. One tab leads, and has it; the browser
 * elects another when it is gone. Each tab keeps its own place in the log for each subscription, so that no message is
 * lost or doubled by a change of leader. Where no tab answers, a tab falls back by itself.
 */
import type { Emitter } from "./emitter.js";
import type { ConnectOptions, Hub, HubEvents, Tabs, TransportChange } from "./hub.js";
import type { Transport, State } from "./fallback.js";
import type { Platform } from "./platform.js";
import { lead } from "./tabs/leader.js";
import { hold, roomOf, type Room, type RoomOptions, type Announcement } from "./tabs/room.js";
import { tabSocket } from "./tabs/socket.js";

export interface TabsOptions extends RoomOptions {
  /** Only tabs of the same group share. Give one to each user where several may use one browser: the leading tab has the rights for all. */
  group?: string;
}

/** Where the browser can't do it (it takes Web Locks and BroadcastChannel), each tab has its own connection. */
export function tabs({ group = "", ...parts }: TabsOptions = {}): Tabs {
  return (connect, url, options, events) => {
    // Tabs of another version may be open: raise the number when they would no longer understand each other.
    const room = roomOf(`tailwire 1 ${url} ${group}`, parts, options);
    return room ? tabHub(room, connect, options, events) : connect(options);
  };
}

function tabHub(room: Room, connect: (options: ConnectOptions & Platform) => Hub, options: ConnectOptions & Platform, events: Emitter<HubEvents>): Hub {
  let said: Pick<Announcement, "state" | "to" | "why"> = { state: "connecting", to: undefined, why: "" };
  /** Set while this tab has no leader and falls back by itself. */
  let alone: TransportChange | undefined;
  let state: State = "connecting";
  let transport: Transport | undefined;
  let stop = (): void => {};

  /** Has a connection of its own, but uses it for subscriptions only while this tab leads. */
  const direct = connect(options);
  /** Has this tab's subscriptions. What it takes for a WebSocket is the tab that leads. */
  const shared = connect({
    ...options,
    // A class, because the hub calls it with `new`.
    WebSocket: class {
      constructor() {
        return tabSocket(room, (news) => {
          said = news;
          update();
        });
      }
    } as unknown as NonNullable<Platform["WebSocket"]>,
    transports: options.transports && ["websocket", ...options.transports],
    // The transport that works for this tab alone says nothing of the shared connection.
    storage: undefined,
  });
  const leave = hold(room, room.name, () => (stop = lead(room, direct)));

  const update = (): void => {
    const led = !alone && shared.state === "live";
    const { to, why } = alone ?? said;
    if (to && to !== transport && (led || alone)) {
      const from = transport;
      transport = to;
      events.emit("transport", { from, to, why });
    }
    const now = led ? said.state : shared.state;
    if (now === state) return;
    state = now;
    events.emit("state", now);
  };
  shared.on("transport", (change) => {
    alone = change.to === "websocket" ? undefined : { ...change, why: change.why.replace("websocket", "the leading tab") };
    update();
  });
  direct.on("failure", (failure) => events.emit("failure", failure));
  // Its WebSocket is the tab that leads, and no transport.
  shared.on("failure", (failure) => failure.transport === "websocket" || events.emit("failure", failure));
  const changed = (): void => {
    update();
    if (shared.state !== "closed") return;
    stop();
    leave();
    direct.close();
  };
  shared.on("state", changed);
  // The signal may have been aborted before.
  changed();

  return {
    get state() {
      return state;
    },
    on: (name, run) => events.on(name, run),
    subscribe: (topic, options) => shared.subscribe(topic, options),
    // These hold no connection, so that each tab does them by itself.
    publish: (topic, data, options) => direct.publish(topic, data, options),
    page: (topic, options) => direct.page(topic, options),
    probe: () => direct.probe(),
    close: () => shared.close(),
    [Symbol.asyncDispose]: async () => shared.close(),
  };
}
