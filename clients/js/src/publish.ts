/** Publishing: the same message under the same key, over whatever works, until the broker says yes or no. */
import { fullJitter, sleep, throwIfAborted } from "./backoff.js";
import { ProblemError } from "./errors.js";
import { retryAfter } from "./http.js";
import * as limits from "./limits.js";
import type { Link, Surroundings } from "./transports/link.js";

export interface PublishOptions {
  /** Makes the publish once, however often it is sent; the client makes one up if it is left out. Good for ten minutes. */
  key?: string;
  /** The message's media type. The default is JSON, or `application/octet-stream` for bytes. */
  type?: string;
  /** The event's name, for `EventSource`. */
  event?: string;
  /** What the message is about; stored and delivered as its `key`. */
  messageKey?: string;
  /** The message's own headers. */
  headers?: Record<string, string>;
  /** How long to try, in milliseconds; a minute by default, nine at most. */
  timeout?: number;
  signal?: AbortSignal | undefined;
}

export interface Receipt {
  cursor: string;
  topic: string;
  time: string;
}

/**
 * `active` gives the link that delivers at the moment; some take requests. Both ways send the message as a batch of one:
 * that is the form which WebSocket and `POST` have in common, so that the broker knows either as a retry of the other.
 */
export async function publish(
  topic: string,
  data: unknown,
  { key, timeout = limits.publish, signal, messageKey, ...own }: PublishOptions,
  { http, clock, random, unique }: Surroundings,
  active: () => Link | undefined,
): Promise<Receipt> {
  // A Blob has its bytes and its type by itself; as JSON it would be `{}`. For anything else nothing is waited for, so
  // that what the caller does to the data later makes no difference.
  if ((data as Blob | undefined)?.arrayBuffer) {
    own.type ??= (data as Blob).type;
    data = await (data as Blob).arrayBuffer();
  }
  // What is no JSON throws here, where it is not taken for a failure of the network.
  const body = JSON.stringify({ topic, key: messageKey, ...own, ...encode(data, own.type) });
  const idempotency_key = key ?? unique();
  const headers = { "content-type": "application/x-ndjson", "idempotency-key": JSON.stringify(idempotency_key) };
  // Throws here too, for what no header can have.
  new Headers(headers);
  const limit = Math.min(timeout, limits.publish_max);
  const until = clock.now() + limit;
  return http.within(limit, signal, async (ended) => {
    for (let failures = 0; ; failures++) {
      throwIfAborted(ended);
      try {
        // After a failure the other way is tried, if there are two.
        // What the broker's lines are too short for goes by POST, where the answer to too much is no close of what all share.
        const asked = failures % 2 || body.length > limits.line_length ? undefined : active()?.request?.({ kind: "publish", messages: [JSON.parse(body)], idempotency_key });
        const answer = asked ?? http.whole<object>("stream", { method: "POST", headers, body, signal: ended });
        const { receipts } = (await answer) as { receipts: Receipt[] };
        return receipts[0]!;
      } catch (error) {
        const wait = Math.max(retryAfter(error) ?? 0, fullJitter(failures, random));
        if ((error instanceof ProblemError && !error.temporary) || clock.now() + wait > until) throw error;
        await sleep(clock, wait, ended);
      }
    }
  });
}

/** As a line carries it: JSON as it is, text in a string, bytes in base64. */
function encode(data: unknown, type?: string): object {
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (ArrayBuffer.isView(data)) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
    return { type: type || "application/octet-stream", encoding: "base64", data: btoa(text) };
  }
  return { type: type ?? "application/json", data };
}
