import { type Transport } from "./fallback.js";
import type { Surroundings } from "./transports/link.js";
export interface ProbeResult {
    ok: boolean;
    /** Until it delivered, or failed. */
    ms: number;
    /** The reason, if it failed. */
    why: string | undefined;
}
export type Probe = {
    [transport in Transport]?: ProbeResult;
};
/** All at once: together they take no longer than the slowest. */
export declare function probe(transports: readonly Transport[], topics: readonly string[], around: Surroundings): Promise<Probe>;
