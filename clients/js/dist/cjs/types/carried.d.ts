import type { Feed } from "./subscription.js";
import type { Line } from "./wire.js";
export declare class Carried {
    #private;
    join(feed: Feed): void;
    /** Whether it still delivers to this one. */
    has(feed: Feed): boolean;
    feeds(): Feed[];
    /** A line that names no subscription. */
    line(line: Line): void;
    /** One request for all of them, from the place of the one that is furthest behind. */
    path(query: object): string;
}
