/** The subscriptions that are attached to one connection: those that its untagged lines are for. */
import { streamPath } from "./topics.js";
import type { Feed } from "./subscription.js";
import type { Line } from "./wire.js";

export interface Attached {
  add(feed: Feed): void;
  feeds(): Feed[];
  /** A line that names no subscription. */
  line(line: Line): void;
  /** One request for all of them, from the place of the one that is furthest behind. */
  path(query: object): string;
}

export function attachedOf(): Attached {
  /** Each with the generation in which it came; it stays attached until its next one. */
  const generations = new Map<Feed, number>();
  const feeds = (): Feed[] => {
    for (const [feed, generation] of generations) if (feed.generation !== generation) generations.delete(feed);
    return [...generations.keys()];
  };
  return {
    add(feed) {
      feed.alone = false;
      generations.set(feed, feed.generation);
    },
    feeds,
    line(line) {
      for (const feed of feeds()) feed.line(feed.generation, line, true);
    },
    path(query) {
      const all = feeds();
      const least = (places: string[]): string => places.sort()[0]!;
      const after = least(all.map((feed) => feed.position));
      // The gap that all of them know. A subscription that doesn't know it is given it, and the others ignore it.
      const gap = least(all.map((feed) => (feed.known > feed.position ? feed.known : feed.position)));
      const terms = new Set(all.flatMap((feed) => feed.topics));
      return streamPath(terms, { after, gap: gap > after ? gap : undefined, ...query });
    },
  };
}
