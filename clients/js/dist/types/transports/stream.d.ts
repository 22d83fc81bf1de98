import type { Feed } from "../subscription.js";
import { type Link, type Surroundings, type Tell } from "./link.js";
export declare function streamLink(feeds: readonly Feed[], around: Surroundings, tell: Tell): Link;
