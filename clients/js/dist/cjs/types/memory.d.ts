/** Remembers, for the next page load, which transport worked for an origin on a network. */
import type { Transport } from "./fallback.js";
import type { Surroundings } from "./transports/link.js";
export declare function recall(around: Surroundings): Transport | undefined;
export declare function remember(transport: Transport, around: Surroundings): void;
