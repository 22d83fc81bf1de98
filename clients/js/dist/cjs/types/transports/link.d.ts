import { Carried } from "../carried.js";
import { type Http } from "../http.js";
import type { Platform } from "../platform.js";
import type { Feed } from "../subscription.js";
import type { Line } from "../wire.js";
export interface Surroundings extends Platform {
    http: Http;
}
/** What a link tells its hub. Nothing comes after `ended`, nor after the hub closed the link. */
export type LinkEvent = 
/** The head of the answer is there. */
{
    kind: "opened";
}
/** Something came, a message or not; and by now it delivers, or doesn't yet. */
 | {
    kind: "alive";
    message: boolean;
    up: boolean;
}
/** What it carries changed by itself. */
 | {
    kind: "changed";
} | {
    kind: "ended";
    why: string;
    retry_after?: number | undefined;
};
export type Tell = (event: LinkEvent) => void;
/** One attempt at one transport. */
export declare abstract class Link {
    #private;
    readonly carried: Carried;
    protected readonly around: Surroundings;
    protected readonly tell: Tell;
    constructor(around: Surroundings, tell: Tell);
    /** Carry these. False if that takes another link. */
    abstract sync(feeds: readonly Feed[]): boolean;
    /** WebSocket only: sends a request, and gives the `ok` that answers it. */
    request?(line: object): Promise<Line>;
    close(): void;
    protected get signal(): AbortSignal;
    protected get closed(): boolean;
    protected alive(message: boolean, up?: boolean): void;
    protected end(why: string, retry_after?: number): void;
    /** Whatever goes wrong ends the link; what the broker refuses for good, also the subscriptions that asked for it. */
    protected failed(reason: unknown, feeds: readonly Feed[]): void;
}
interface Lines {
    lines: Line[];
    more: boolean;
    retry_after_ms?: number | undefined;
}
/** A link made of plain requests. What it carries is fixed when it has opened; for more, the hub opens another. */
export declare abstract class HttpLink extends Link {
    #private;
    constructor(feeds: readonly Feed[], around: Surroundings, tell: Tell);
    /** Delivers until it ends; `carried` has at least one subscription. */
    protected abstract run(): Promise<void>;
    sync(feeds: readonly Feed[]): boolean;
    protected sleep(ms: number): Promise<void>;
    /** A page as the lines that a stream would have given. */
    protected page(path: string, timeout?: number): Promise<Lines>;
}
export {};
