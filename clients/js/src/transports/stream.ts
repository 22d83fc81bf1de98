/** A streamed response, read by `fetch`. */
import { NetworkError } from "../errors.js";
import { BlockReader } from "../wire.js";
import { HttpLink } from "./link.js";

export class StreamLink extends HttpLink {
  protected async run(): Promise<void> {
    const { tell, carried, signal } = this;
    const { body } = await this.around.http.send(carried.path({ format: "sse", envelope: true }), { signal });
    tell({ kind: "opened" });
    if (!body?.getReader) throw new NetworkError("fetch does not stream here");
    const reader = body.getReader();
    const decoder = new TextDecoder();
    const blocks = new BlockReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return this.end("the response ended");
      for (const line of blocks.push(decoder.decode(value, { stream: true }))) {
        if (signal.aborted) return;
        if (line.kind === "bye") return this.end(`bye: ${line.reason}`, line.retry_after_ms as number);
        carried.line(line);
        this.alive(line.kind === "message");
      }
      // All are paused. What comes would only be thrown away.
      if (!carried.feeds().length) return reader.cancel();
    }
  }
}
