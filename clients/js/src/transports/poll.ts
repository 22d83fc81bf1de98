/** Pages, one request after the other: held open by the broker (long-poll), or asked for when the broker says (poll). */
import * as limits from "../limits.js";
import type { Feed } from "../subscription.js";
import { HttpLink, type Surroundings, type Tell } from "./link.js";

export class PollLink extends HttpLink {
  /** Seconds that the broker may hold a request. */
  readonly #wait: number;

  constructor(feeds: readonly Feed[], around: Surroundings, tell: Tell, wait: number) {
    super(feeds, around, tell);
    this.#wait = wait;
  }

  protected async run(): Promise<void> {
    const { carried, around } = this;
    const { clock } = around;
    // The first answer comes at once: it shows that this transport works.
    for (let wait = 0; carried.feeds().length; wait = this.#wait) {
      const asked_at = clock.now();
      const path = carried.path({ limit: limits.page_messages, wait });
      const { lines, more, retry_after_ms } = await this.page(path, limits.request + wait * 1000);
      if (this.closed) return;
      lines.forEach((line) => carried.line(line));
      this.alive(lines.length > 1);
      if (more || lines.length > 1 || wait < this.#wait) continue;
      // Something on the way may take the wait out of the request; asking again at once would never end.
      if (!wait || clock.now() - asked_at < limits.race) await this.sleep(retry_after_ms ?? limits.open);
    }
  }
}
