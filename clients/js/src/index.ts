/** Tailwire for JavaScript. */
import { emitterOf } from "./emitter.js";
import { directHub, type ConnectOptions, type Hub } from "./hub.js";
import { refuseUnknown } from "./options.js";
import { defaultPlatform, type Platform } from "./platform.js";

/** A hub for the broker at this address, which in a page may be a path. It connects when something is subscribed to. */
export function connect(url: string | URL, options: ConnectOptions = {}): Hub {
  const defaults = defaultPlatform();
  refuseUnknown(options, { token: 0, transports: 0, tabs: 0, signal: 0, ...defaults });
  // Without a scheme, `rt.example.com` would be a folder of the page, and `localhost:8245` a scheme of its own.
  if (!/^(https?:\/\/|[./])/i.test(`${url}`)) throw new TypeError(`No http(s) URL: ${url}`);
  const base = new URL(`${url}`.replace(/\/?$/, "/"), globalThis.location?.href);
  const direct = (whole: ConnectOptions & Platform): Hub => directHub(base, whole);
  const whole = { ...defaults, ...options };
  return options.tabs ? options.tabs(direct, base.href, whole, emitterOf()) : direct(whole);
}

export { AccessError, ClosedError, GapError, NetworkError, ProblemError, TailwireError, type Problem } from "./errors.js";
export type { ConnectOptions, Hub, HubEvents, Page, PageOptions, Tabs, TransportChange, TransportFailure } from "./hub.js";
export type { Transport, State } from "./fallback.js";
export type { Clock, Network, Platform, Socket, Store } from "./platform.js";
export type { Probe, ProbeResult } from "./probe.js";
export type { PublishOptions, Receipt } from "./publish.js";
export type { Start, SubscribeOptions, Subscription, SubscriptionEvents } from "./subscription.js";
export type { TokenRequest, TokenSource } from "./token.js";
export type { Gap, Message } from "./wire.js";
