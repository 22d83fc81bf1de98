/** Which class is which transport. */
import type { Transport } from "../fallback.js";
import * as limits from "../limits.js";
import type { Feed } from "../subscription.js";
import type { Link, Surroundings, Tell } from "./link.js";
import { pollLink } from "./poll.js";
import { streamLink } from "./stream.js";
import { webSocketLink } from "./websocket.js";

const LINKS = { websocket: webSocketLink, stream: streamLink, "long-poll": pollLink, poll: pollLink };

/** From the best down. */
export const TRANSPORTS = Object.keys(LINKS) as readonly Transport[];

export function openLink(transport: Transport, feeds: readonly Feed[], around: Surroundings, tell: Tell): Link {
  return LINKS[transport](feeds, around, tell, transport === "poll" ? 0 : limits.wait_seconds);
}
