/** Which class is which rung. */
import type { Rung } from "../ladder.js";
import * as limits from "../limits.js";
import type { Feed } from "../subscription.js";
import type { Link, Surroundings, Tell } from "./link.js";
import { pollLink } from "./poll.js";
import { streamLink } from "./stream.js";
import { webSocketLink } from "./websocket.js";

const LINKS = { websocket: webSocketLink, stream: streamLink, "long-poll": pollLink, poll: pollLink };

/** From the best down. */
export const RUNGS = Object.keys(LINKS) as readonly Rung[];

export function openLink(rung: Rung, feeds: readonly Feed[], around: Surroundings, tell: Tell): Link {
  return LINKS[rung](feeds, around, tell, rung === "poll" ? 0 : limits.wait_seconds);
}
