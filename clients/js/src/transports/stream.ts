/** A streamed response, read by `fetch`. */
import { boundedWait } from "../backoff.js";
import { Kind } from "../fallback.js";
import * as limits from "../limits.js";
import type { Feed } from "../subscription.js";
import { blockReader } from "../wire.js";
import { httpLink, type Link, type LinkEvent, type Surroundings, type Tell } from "./link.js";

export function streamLink(feeds: readonly Feed[], around: Surroundings, tell: Tell): Link {
  const { http } = around;
  /** When an `EventSource` would come back. */
  let retry_ms: number | undefined;
  return httpLink(feeds, around, (event) => tell({ ...event, retry_ms } as LinkEvent), ({ attached, lifetime, alive, end }) =>
    http.within(limits.timer, lifetime, async (signal) => {
      const asked = attached.feeds().length;
      const { body } = await http.answered(attached.path({ format: "sse", envelope: true }), { signal });
      tell({ kind: Kind.Opened });
      const reader = body!.getReader();
      const decoder = new TextDecoder();
      const read = blockReader((ms) => (retry_ms = boundedWait(ms)));
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return end("the response ended");
        for (const line of read(decoder.decode(value, { stream: true }))) {
          if (lifetime.aborted) return;
          if (line.kind === "bye") return end(`bye: ${line.reason}`, line.retry_after_ms);
          attached.line(line);
          alive(line.kind === "message");
        }
        // Some are closed or paused, and what comes for them would only be thrown away: ends here, and asks for the others.
        if (attached.feeds().length < asked) return;
      }
    }),
  );
}
