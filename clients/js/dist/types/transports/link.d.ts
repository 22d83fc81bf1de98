/** The common part of all transports: the interface to the hub, and how subscriptions are attached over plain requests. */
import { type Lifetime } from "../backoff.js";
import { type Attached } from "../attached.js";
import { type Http } from "../http.js";
import { Kind } from "../fallback.js";
import type { Platform } from "../platform.js";
import type { Feed } from "../subscription.js";
import type { Line } from "../wire.js";
export interface Surroundings extends Platform {
    http: Http;
}
/** An event of a link, for its hub. Nothing comes after `ended`, nor after the hub closed the link. */
export type LinkEvent = 
/** The head of the answer is there. */
{
    kind: Kind.Opened;
}
/** Something came, a message or not; and by now it delivers, or doesn't yet. */
 | {
    kind: Kind.Alive;
    message: boolean;
    up: boolean;
}
/** The set of attached subscriptions changed by itself. */
 | {
    kind: Kind.Changed;
} | {
    kind: Kind.Ended;
    why: string;
    retry_after?: number | undefined;
    retry_ms?: number | undefined;
};
export type Tell = (event: LinkEvent) => void;
/** One attempt at one transport. */
export interface Link {
    readonly attached: Attached;
    /** Serve these subscriptions. False if that takes another link. */
    sync(feeds: readonly Feed[]): boolean;
    /** WebSocket only: sends a request, and gives the `ok` that answers it. */
    request?(line: object): Promise<Line>;
    close(): void;
}
/** The common part of links. */
export interface Base {
    attached: Attached;
    lifetime: Lifetime;
    /** A sign of life came, with a message or not, and whether it delivers by now. */
    alive(message: boolean, up?: boolean): void;
    /** `retry_after` is the value as the broker gave it, unchecked. */
    end(why: string, retry_after?: unknown): void;
    /** An error ends the link; a final refusal by the broker also ends the subscriptions that asked. */
    failed(reason: unknown, feeds: readonly Feed[]): void;
}
export declare function baseOf(tell: Tell): Base;
interface Lines {
    lines: Line[];
    more: boolean;
    retry_after_ms?: number | undefined;
}
/** The common part of links made of plain requests. */
export interface HttpBase extends Base {
    sleep(ms: number): Promise<void>;
    /** A page as the lines that a stream would have given. */
    pages(path: string, timeout?: number): Promise<Lines>;
}
/**
 * A link made of plain requests. Its set of subscriptions is fixed when it has opened; for more, the hub opens another. `run`
 * delivers to what is attached, at least one, until that is less; then it is asked again for the rest.
 */
export declare function httpLink(feeds: readonly Feed[], { http, clock }: Surroundings, tell: Tell, run: (base: HttpBase) => Promise<void>): Link;
export {};
