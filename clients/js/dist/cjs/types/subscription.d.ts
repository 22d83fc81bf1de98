/// <reference lib="esnext.disposable" preserve="true" />
import type { TailwireError } from "./errors.js";
import { type Gap, type Line, type Message } from "./wire.js";
/** Where to begin: after a cursor, at a time (`"2026-11-30T10:00:00Z"`, `"-10m"`), at `"earliest"`, at `"latest"` (the default), or with the `last` n messages. */
export interface Start {
    after?: string;
    last?: number;
}
export interface SubscribeOptions extends Start {
    /** Messages that may wait to be read before the subscription pauses. */
    buffer?: number;
    /** Closes the subscription. */
    signal?: AbortSignal | undefined;
}
export interface SubscriptionEvents<T> {
    message: Message<T>;
    /** Messages were lost to this subscription. Emitted in its place among the messages. */
    gap: Gap;
    /** Everything stored has been delivered; what follows is live. Emitted again after an interruption. */
    caught_up: {
        cursor: string;
    };
    /** `cursor` moved without a message, past what other topics got. */
    moved: {
        cursor: string;
    };
    /** The subscription can't go on, and is closed. */
    error: TailwireError;
}
export interface Subscription<T = unknown> extends AsyncIterable<Message<T>> {
    readonly topics: readonly string[];
    /** The place up to which everything was delivered to the application: what to store, to go on from another time. */
    readonly cursor: string | undefined;
    readonly closed: boolean;
    on<Name extends keyof SubscriptionEvents<T>>(name: Name, run: (value: SubscriptionEvents<T>[Name]) => void): () => void;
    close(): void;
    [Symbol.asyncDispose](): Promise<void>;
}
/** A subscription as connections see it. */
export interface Feed extends Subscription {
    /** Everything up to here was taken, or was not for us. Empty until the start is known. */
    position: string;
    /** The end of the last gap that was emitted, or was found to be none. */
    known: string;
    /** Raised whenever `position` stops being one that connections may build on; what they deliver of an older generation is dropped. */
    generation: number;
    /** The next connection has to ask for it alone first, by its own place. */
    alone: boolean;
    paused: boolean;
    /** It stood at the tail, and a connection has delivered since. */
    live: boolean;
    closed: boolean;
    matches(topic: string): boolean;
    /** The parameters of the next request, to go on. */
    ask(): {
        after?: string | undefined;
        last?: number | undefined;
        gap?: string | undefined;
    };
    /**
     * A line of a connection, which is shared with others or is for this one alone. Returns the generation in which one that
     * is for this one alone goes on delivering.
     */
    line(generation: number, line: Line, shared?: boolean): number;
    /** Everything up to this cursor has been delivered. */
    move(cursor: string): void;
    fail(error: TailwireError): void;
}
/** `changed` is called when connections have to look at it again. */
export declare function feedOf(topics: readonly string[], options: SubscribeOptions, changed: () => void): Feed;
