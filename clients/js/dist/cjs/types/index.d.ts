import { type ConnectOptions, type Hub } from "./hub.js";
/** A hub for the broker at this address, which in a page may be a path. It connects when something is subscribed to. */
export declare function connect(url: string | URL, options?: ConnectOptions): Hub;
export { AccessError, ClosedError, GapError, NetworkError, ProblemError, TailwireError, type Problem } from "./errors.js";
export type { ConnectOptions, Hub, HubEvents, Page, PageOptions, Tabs, TransportChange, TransportFailure } from "./hub.js";
export type { Transport, State } from "./fallback.js";
export type { Clock, Network, Platform, Socket, Store } from "./platform.js";
export type { Probe, ProbeResult } from "./probe.js";
export type { PublishOptions, Receipt } from "./publish.js";
export type { Start, SubscribeOptions, Subscription, SubscriptionEvents } from "./subscription.js";
export type { TokenRequest, TokenSource } from "./token.js";
export type { Gap, Message } from "./wire.js";
