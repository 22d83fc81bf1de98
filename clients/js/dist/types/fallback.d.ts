export type Transport = "websocket" | "stream" | "long-poll" | "poll";
export type State = "connecting" | "live" | "degraded" | "offline" | "closed";
/** Events of the fallback. Numbers, as these names are in every page that loads the client. */
export declare const enum Kind {
    Start = 0,
    Stop = 1,
    Renew = 2,
    Offline = 3,
    Network = 4,
    Tick = 5,
    Opened = 6,
    Alive = 7,
    Audited = 8,
    Ended = 9,
    Changed = 10,
    Answered = 11
}
export type FallbackEvent = 
/** There are subscriptions to serve, or there are none. */
{
    kind: Kind.Start | Kind.Stop;
}
/** The active attempt can't serve all subscriptions; open another beside it. */
 | {
    kind: Kind.Renew;
}
/** The network is gone; it is back, or is another one, or the machine slept. */
 | {
    kind: Kind.Offline | Kind.Network;
}
/** Some request was answered, so a wait between tries has lost its reason. */
 | {
    kind: Kind.Answered;
} | {
    kind: Kind.Tick;
}
/** Of one attempt: the head of the answer came; a sign of life, with a message in it or not, and whether it delivers by now. */
 | {
    kind: Kind.Opened;
    id: object;
} | {
    kind: Kind.Alive;
    id: object;
    message: boolean;
    up: boolean;
}
/** An audit found nothing wrong. */
 | {
    kind: Kind.Audited;
    id: object;
}
/** It ended. `retry_after` is when the broker asks to come back; then the transport isn't to blame. `retry_ms` is the least wait if it is. */
 | {
    kind: Kind.Ended;
    id: object;
    why: string;
    retry_after?: number | undefined;
    retry_ms?: number | undefined;
};
/** Orders of the fallback to its hub. */
export interface Orders {
    open(id: object, transport: Transport): void;
    close(id: object): void;
    /** From now on this attempt is the active one. */
    activate(id: object, transport: Transport, why: string): void;
    /** A transport failed, for a reason that is another than the last time. */
    failed(transport: Transport, why: string): void;
    /** Ask by a page whether lines of the active attempt are buffered on the way. */
    audit(id: object): void;
}
export interface Fallback {
    readonly state: State;
    /** When the next `tick` is due. */
    readonly next_at: number;
    /** `token_wait` is the total time in which no connection could be opened for want of a token: it counts against no attempt. */
    handle(event: FallbackEvent, now: number, token_wait: number): void;
}
export declare function fallbackOf(transports: readonly Transport[], base: number, random: () => number, orders: Orders): Fallback;
