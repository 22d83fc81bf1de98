/**
 * A tab's line to the tab that leads: a WebSocket as far as the hub can tell, which speaks the broker's lines over a
 * channel of its own. So whatever the hub knows of lost connections, positions and coming back holds for lost tabs too.
 */
import type { Line } from "../wire.js";
import { type Room, type Announcement } from "./room.js";
export interface TabSocket {
    onopen?(event: object): void;
    onmessage?(event: {
        data: Line;
    }): void;
    onclose?(event: {
        code: number;
        reason: string;
    }): void;
    send(text: string): void;
    close(): void;
}
/** `announced` is called with each announcement of the leader. */
export declare function tabSocket(room: Room, announced: (news: Announcement) => void): TabSocket;
