import type { Feed } from "../subscription.js";
import { type Link, type Surroundings, type Tell } from "./link.js";
/** `seconds` are what the broker may hold a request. */
export declare function pollLink(feeds: readonly Feed[], around: Surroundings, tell: Tell, seconds: number): Link;
