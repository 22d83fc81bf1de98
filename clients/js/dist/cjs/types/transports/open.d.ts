/** Which class is which transport. */
import type { Transport } from "../fallback.js";
import type { Feed } from "../subscription.js";
import type { Link, Surroundings, Tell } from "./link.js";
/** From the best down. */
export declare const TRANSPORTS: readonly Transport[];
export declare function openLink(transport: Transport, feeds: readonly Feed[], around: Surroundings, tell: Tell): Link;
