/** Remembers, for the next page load, which rung worked for an origin on a network. */
import type { Rung } from "./ladder.js";
import type { Surroundings } from "./transports/link.js";
export declare function recall(around: Surroundings): Rung | undefined;
export declare function remember(rung: Rung, around: Surroundings): void;
