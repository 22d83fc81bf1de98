/** What one connection carries: the subscriptions that its untagged lines are for. */
import { streamPath } from "./topics.js";
import type { Feed } from "./subscription.js";
import type { Line } from "./wire.js";

export class Carried {
  readonly #laps = new Map<Feed, number>();

  join(feed: Feed): void {
    feed.alone = false;
    this.#laps.set(feed, feed.lap);
  }

  /** Whether it still delivers to this one. */
  has(feed: Feed): boolean {
    return this.#laps.get(feed) === feed.lap;
  }

  feeds(): Feed[] {
    return [...this.#laps.keys()].filter((feed) => this.has(feed));
  }

  /** A line that names no subscription. */
  line(line: Line): void {
    for (const feed of this.feeds()) feed.line(feed.lap, line, true);
  }

  /** One request for all of them, from the place of the one that is furthest behind. */
  path(query: object): string {
    const feeds = this.feeds();
    const least = (places: string[]): string => places.reduce((a, b) => (b < a ? b : a));
    const after = least(feeds.map((feed) => feed.position));
    // What every one of them knows of. Who doesn't is told, and the others ignore it.
    const gap = least(feeds.map((feed) => (feed.known > feed.position ? feed.known : feed.position)));
    const terms = new Set(feeds.flatMap((feed) => feed.topics));
    return streamPath(terms, { after, gap: gap > after ? gap : undefined, ...query });
  }
}
