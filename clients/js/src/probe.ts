/** Tries each transport by itself, and says why it fails. */
import { lateness } from "./backoff.js";
import { Kind, type Transport } from "./fallback.js";
import * as limits from "./limits.js";
import { feedOf } from "./subscription.js";
import type { Surroundings } from "./transports/link.js";
import { openLink } from "./transports/open.js";

export interface ProbeResult {
  ok: boolean;
  /** Until it delivered, or failed. */
  ms: number;
  /** The reason, if it failed. */
  why: string | undefined;
}

export type Probe = { [transport in Transport]?: ProbeResult };

/** All at once: together they take no longer than the slowest. */
export async function probe(transports: readonly Transport[], topics: readonly string[], around: Surroundings): Promise<Probe> {
  // The time that the application needs for a token is no transport's.
  await around.http.authorized(undefined, async () => {});
  return Object.fromEntries(await Promise.all(transports.map(async (transport) => [transport, await probeOne(transport, topics, around)]))) as Probe;
}

function probeOne(transport: Transport, topics: readonly string[], around: Surroundings): Promise<ProbeResult> {
  const { clock } = around;
  const since = clock.now();
  return new Promise((resolve) => {
    let phase = 0;
    const done = (why?: string): void => {
      clock.clearTimeout(timer);
      link.close();
      resolve({ ok: !why, ms: Math.round(clock.now() - since), why });
    };
    const late = limits.opening + limits.first_line;
    const timer = clock.setTimeout(() => done(lateness(phase, late)), late);
    const feed = feedOf(topics, {}, () => {});
    feed.on("error", ({ message }) => done(message));
    const link = openLink(transport, [feed], around, (event) => {
      if (event.kind === Kind.Opened) phase = 1;
      else if (event.kind === Kind.Alive && event.up) done();
      else if (event.kind === Kind.Ended) done(event.why);
    });
  });
}
