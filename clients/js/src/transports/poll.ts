/** Pages, one request after the other: kept open by the broker (long-poll), or asked for when the broker says (poll). */
import { boundedWait } from "../backoff.js";
import * as limits from "../limits.js";
import type { Feed } from "../subscription.js";
import { httpLink, type Link, type Surroundings, type Tell } from "./link.js";

/** `seconds` are what the broker may hold a request. */
export function pollLink(feeds: readonly Feed[], around: Surroundings, tell: Tell, seconds: number): Link {
  const { clock } = around;
  return httpLink(feeds, around, tell, async ({ attached, lifetime, alive, pages, sleep }) => {
    // The first answer comes at once: it shows that this transport works.
    for (let wait = 0; attached.feeds().length; wait = seconds) {
      const asked_at = clock.now();
      const path = attached.path({ limit: limits.page_messages, wait });
      const { lines, more, retry_after_ms } = await pages(path, limits.answer + wait * 1000);
      if (lifetime.aborted) return;
      lines.forEach(attached.line);
      alive(lines.length > 1);
      if (more || lines.length > 1 || wait < seconds) continue;
      // Something on the way may take the wait out of the request; asking again at once would never end.
      if (!wait || clock.now() - asked_at < limits.race) await sleep(boundedWait(retry_after_ms) ?? limits.opening);
    }
  });
}
