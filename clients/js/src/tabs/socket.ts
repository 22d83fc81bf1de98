/**
 * A tab's line to the tab that leads: a WebSocket as far as the hub can tell, which speaks the broker's lines over a
 * channel of its own. So whatever the hub knows of lost connections, positions and coming back holds for lost tabs too.
 */
import type { Line } from "../wire.js";
import { hold, type Room, type Announcement } from "./room.js";

/** While an answer is due, a sign of life comes more often than the hub loses patience; later, as from a broker. */
const BUSY_MS = 2_000;
const IDLE_MS = 15_000;
/** Pings in a row that the leader may leave unanswered. A tab that is gone is known at once, by its lock; this is for one that hangs. */
const UNANSWERED = 3;

export interface TabSocket {
  onopen?(event: object): void;
  onmessage?(event: { data: Line }): void;
  onclose?(event: { code: number; reason: string }): void;
  send(text: string): void;
  close(): void;
}

/** `announced` is called with each announcement of the leader. */
export function tabSocket(room: Room, announced: (news: Announcement) => void): TabSocket {
  const { clock } = room;
  const common = room.open(room.name);
  const id = `${room.name} ${room.unique()}`;
  const channel = room.open(id);
  const due = new Set<number | undefined>();
  let leader: string | undefined;
  let unanswered = 0;
  let timer: unknown;

  const hello = (): void => common.postMessage({ hello: id });
  const arm = (): void => {
    clock.clearTimeout(timer);
    timer = clock.setTimeout(tick, due.size ? BUSY_MS : IDLE_MS);
  };
  const tick = (): void => {
    if (unanswered++ === UNANSWERED) return socket.onclose!({ code: 1006, reason: "no answer came" });
    channel.postMessage('{"kind":"ping"}');
    arm();
    // Also to the hub: in a page in the background the answer may come after the hub has looked at the time.
    socket.onmessage!({ data: { kind: "ping" } });
  };
  const receive = (line: Line): void => {
    unanswered = 0;
    if (line.kind === "welcome") {
      announced(line as unknown as Announcement);
      leader = line.leader as string;
      socket.onopen!({});
      arm();
    }
    due.delete(line.id);
    socket.onmessage!({ data: line });
  };
  const socket: TabSocket = {
    send(text) {
      const { kind, id } = JSON.parse(text) as Line;
      if (kind === "subscribe") due.add(id);
      channel.postMessage(text);
      arm();
    },
    close() {
      clock.clearTimeout(timer);
      channel.close();
      common.close();
      leave();
    },
  };
  common.onmessage = ({ data }) => {
    if (!data.leader) return;
    announced(data);
    if (!leader) hello();
    else if (leader !== data.leader) receive({ kind: "bye", retry_after_ms: 0 });
  };
  channel.onmessage = ({ data }) => data.forEach(receive);
  // The leader waits for this lock, to know when this end is gone.
  const leave = hold(room, id, hello);
  return socket;
}
