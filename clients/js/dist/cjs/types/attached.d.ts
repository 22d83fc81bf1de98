import type { Feed } from "./subscription.js";
import type { Line } from "./wire.js";
export interface Attached {
    add(feed: Feed): void;
    feeds(): Feed[];
    /** A line that names no subscription. */
    line(line: Line): void;
    /** One request for all of them, from the place of the one that is furthest behind. */
    path(query: object): string;
}
export declare function attachedOf(): Attached;
