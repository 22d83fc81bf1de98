import type { Feed } from "../subscription.js";
import { type Link, type Surroundings, type Tell } from "./link.js";
/** Lines without a tag are for those that caught up; these are `attached`. */
export declare function webSocketLink(feeds: readonly Feed[], { WebSocket, http }: Surroundings, tell: Tell): Link;
