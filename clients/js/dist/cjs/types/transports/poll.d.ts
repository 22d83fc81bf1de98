import type { Feed } from "../subscription.js";
import { HttpLink, type Surroundings, type Tell } from "./link.js";
export declare class PollLink extends HttpLink {
    #private;
    constructor(feeds: readonly Feed[], around: Surroundings, tell: Tell, wait: number);
    protected run(): Promise<void>;
}
