/** Which class is which rung. */
import type { Rung } from "../ladder.js";
import * as limits from "../limits.js";
import type { Feed } from "../subscription.js";
import type { Link, Surroundings, Tell } from "./link.js";
import { pollLink } from "./poll.js";
import { streamLink } from "./stream.js";
import { webSocketLink } from "./websocket.js";

/** From the best down. */
export const RUNGS: readonly Rung[] = ["websocket", "stream", "long-poll", "poll"];

export function openLink(rung: Rung, feeds: readonly Feed[], around: Surroundings, tell: Tell): Link {
  if (rung === "websocket") return webSocketLink(feeds, around, tell);
  if (rung === "stream") return streamLink(feeds, around, tell);
  return pollLink(feeds, around, tell, rung === "poll" ? 0 : limits.wait_seconds);
}
