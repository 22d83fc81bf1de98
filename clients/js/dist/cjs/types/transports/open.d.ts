/** Which class is which rung. */
import type { Rung } from "../ladder.js";
import type { Feed } from "../subscription.js";
import type { Link, Surroundings, Tell } from "./link.js";
/** From the best down. */
export declare const RUNGS: readonly Rung[];
export declare function openLink(rung: Rung, feeds: readonly Feed[], around: Surroundings, tell: Tell): Link;
