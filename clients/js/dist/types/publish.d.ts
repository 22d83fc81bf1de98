import type { Link, Surroundings } from "./transports/link.js";
export interface PublishOptions {
    /** Makes the publish once, however often it is sent; the client makes one up if it is left out. Good for ten minutes. */
    key?: string;
    /** The message's media type. The default is JSON, or `application/octet-stream` for bytes. */
    type?: string;
    /** The event's name, for `EventSource`. */
    event?: string;
    /** The message's key: its subject, stored and delivered as `key`. */
    messageKey?: string;
    /** The message's own headers. */
    headers?: Record<string, string>;
    /** How long to try, in milliseconds; a minute by default, nine at most. */
    timeout?: number;
    /** Sent at once, beside the others, in no order among them. */
    unordered?: boolean;
    signal?: AbortSignal | undefined;
}
export interface Receipt {
    cursor: string;
    topic: string;
    time: string;
}
export interface Publisher {
    publish(topic: string, data: unknown, options?: PublishOptions): Promise<Receipt>;
    /** A transport is there, or the hub is closed: a wait between tries has lost its reason. */
    wake(): void;
}
/**
 * `link` gives the link that delivers at the moment; some take requests. Both ways send a batch: that is the form which
 * WebSocket and `POST` have in common, so that the broker knows either as a retry of the other.
 */
export declare function publisherOf({ http, clock, random, unique }: Surroundings, link: () => Link | undefined): Publisher;
