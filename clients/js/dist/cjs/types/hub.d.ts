/// <reference lib="esnext.disposable" preserve="true" />
/** The hub: holds subscriptions, runs the fallback state machine, opens and closes links as it orders. Of other tabs it knows nothing. */
import { type Emitter } from "./emitter.js";
import { type Transport, type State } from "./fallback.js";
import type { Platform } from "./platform.js";
import { type Probe } from "./probe.js";
import { type PublishOptions, type Receipt } from "./publish.js";
import { type Start, type SubscribeOptions, type Subscription } from "./subscription.js";
import type { TokenSource } from "./token.js";
import { type Message } from "./wire.js";
export interface ConnectOptions extends Partial<Platform> {
    token?: TokenSource;
    /** The transports that may be used. */
    transports?: readonly Transport[] | undefined;
    /** Shares one connection among the tabs of a browser: what `tabs()` of `tailwire/tabs` gives. */
    tabs?: Tabs | undefined;
    /** Closes the hub. */
    signal?: AbortSignal | undefined;
}
/** Makes a hub for an address out of others, each with a connection of its own; `events` is for what it tells. */
export type Tabs = (connect: (options: ConnectOptions & Platform) => Hub, url: string, options: ConnectOptions & Platform, events: Emitter<HubEvents>) => Hub;
export interface TransportChange {
    /** Undefined at first. */
    from: Transport | undefined;
    to: Transport;
    why: string;
}
export interface TransportFailure {
    transport: Transport;
    why: string;
}
export interface HubEvents {
    state: State;
    transport: TransportChange;
    /** A transport failed; emitted again when it fails for another reason, or after it has worked. */
    failure: TransportFailure;
}
export interface PageOptions extends Start {
    limit?: number;
    /** The `to` of a gap that is known. */
    gap?: string;
    signal?: AbortSignal | undefined;
}
export interface Page<T = unknown> {
    messages: Message<T>[];
    /** The `after` of the next page. */
    cursor: string;
    /** Whether there is a next page now. */
    more: boolean;
}
export interface Hub {
    /** `connecting`, also while there is no subscription; `live` on the best transport there is, `degraded` on another. */
    readonly state: State;
    /** Returns the function that takes the listener off again. */
    on<Name extends keyof HubEvents>(name: Name, run: (value: HubEvents[Name]) => void): () => void;
    subscribe<T = unknown>(topic: string | readonly string[], options?: SubscribeOptions): Subscription<T>;
    publish(topic: string, data: unknown, options?: PublishOptions): Promise<Receipt>;
    page<T = unknown>(topic: string | readonly string[], options?: PageOptions): Promise<Page<T>>;
    /** Tries every transport by itself, beside what runs. */
    probe(): Promise<Probe>;
    close(): void;
    [Symbol.asyncDispose](): Promise<void>;
}
/** The hub that has a connection of its own. */
export declare function directHub(base: URL, { token, transports, signal, ...platform }: ConnectOptions & Platform): Hub;
