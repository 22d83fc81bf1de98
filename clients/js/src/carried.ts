/** What one connection carries: the subscriptions that its untagged lines are for. */
import { streamPath } from "./topics.js";
import type { Feed } from "./subscription.js";
import type { Line } from "./wire.js";

export interface Carried {
  board(feed: Feed): void;
  feeds(): Feed[];
  /** A line that names no subscription. */
  line(line: Line): void;
  /** One request for all of them, from the place of the one that is furthest behind. */
  path(query: object): string;
}

export function carriedOf(): Carried {
  /** Each with the lap in which it came; it is carried until its next one. */
  const laps = new Map<Feed, number>();
  const feeds = (): Feed[] => {
    for (const [feed, lap] of laps) if (feed.lap !== lap) laps.delete(feed);
    return [...laps.keys()];
  };
  return {
    board(feed) {
      feed.alone = false;
      laps.set(feed, feed.lap);
    },
    feeds,
    line(line) {
      for (const feed of feeds()) feed.line(feed.lap, line, true);
    },
    path(query) {
      const all = feeds();
      const least = (places: string[]): string => places.sort()[0]!;
      const after = least(all.map((feed) => feed.position));
      // What every one of them knows of. Who doesn't is told, and the others ignore it.
      const gap = least(all.map((feed) => (feed.known > feed.position ? feed.known : feed.position)));
      const terms = new Set(all.flatMap((feed) => feed.topics));
      return streamPath(terms, { after, gap: gap > after ? gap : undefined, ...query });
    },
  };
}
