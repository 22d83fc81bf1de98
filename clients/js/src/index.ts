/** Tailwire for JavaScript. */
import { emitterOf } from "./emitter.js";
import { directHub, type ConnectOptions, type Hub } from "./hub.js";
import { defaultPlatform, type Platform } from "./platform.js";

/** A hub for the broker at this address, which in a page may be relative. It connects when something is subscribed to. */
export function connect(url: string | URL, { tabs, ...options }: ConnectOptions = {}): Hub {
  const base = new URL(String(url).replace(/\/?$/, "/"), globalThis.location?.href);
  if (!/^http/.test(base.protocol)) throw new TypeError("No HTTP address");
  const direct = (whole: ConnectOptions & Platform): Hub => directHub(base, whole);
  const whole = { ...defaultPlatform(), ...options };
  return tabs ? tabs(direct, base.href, whole, emitterOf()) : direct(whole);
}

export { AccessError, ClosedError, GapError, NetworkError, ProblemError, TailwireError, type Problem } from "./errors.js";
export type { ConnectOptions, Hub, HubEvents, Page, PageOptions, Tabs, TransportChange } from "./hub.js";
export type { Transport, State } from "./fallback.js";
export type { Clock, Network, Platform, Socket, Store } from "./platform.js";
export type { Probe, ProbeResult } from "./probe.js";
export type { PublishOptions, Receipt } from "./publish.js";
export type { Start, SubscribeOptions, Subscription, SubscriptionEvents } from "./subscription.js";
export type { TokenRequest, TokenSource } from "./token.js";
export type { Gap, Message } from "./wire.js";
