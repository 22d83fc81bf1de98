/** A streamed response, read by `fetch`. */
import { NetworkError } from "../errors.js";
import { Kind } from "../ladder.js";
import * as limits from "../limits.js";
import type { Feed } from "../subscription.js";
import { blockReader } from "../wire.js";
import { httpLink, type Link, type Surroundings, type Tell } from "./link.js";

export function streamLink(feeds: readonly Feed[], around: Surroundings, tell: Tell): Link {
  const { http } = around;
  return httpLink(feeds, around, tell, ({ carried, life, alive, end }) =>
    http.within(limits.timer, life, async (signal) => {
      const asked = carried.feeds().length;
      const { body } = await http.send(carried.path({ format: "sse", envelope: true }), { signal });
      tell({ kind: Kind.Opened });
      if (!body?.getReader) throw new NetworkError("no streaming here");
      const reader = body.getReader();
      const decoder = new TextDecoder();
      const read = blockReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return end("the response ended");
        for (const line of read(decoder.decode(value, { stream: true }))) {
          if (life.aborted) return;
          if (line.kind === "bye") return end(`bye: ${line.reason}`, line.retry_after_ms as number);
          carried.line(line);
          alive(line.kind === "message");
        }
        // Some are closed or paused, and what comes for them would only be thrown away: ends here, and asks for the others.
        if (carried.feeds().length < asked) return;
      }
    }),
  );
}
