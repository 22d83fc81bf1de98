import type { Feed } from "../subscription.js";
import { type Line } from "../wire.js";
import { Link, type Surroundings, type Tell } from "./link.js";
/** Lines without a tag are for those that caught up; these are `carried`. */
export declare class WebSocketLink extends Link {
    #private;
    constructor(feeds: readonly Feed[], around: Surroundings, tell: Tell);
    sync(feeds: readonly Feed[]): boolean;
    request(line: object): Promise<Line>;
    close(): void;
}
