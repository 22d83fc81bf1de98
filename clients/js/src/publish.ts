/**
 * Publishing: one queue for the messages of a hub, in the order of the calls. What gathered while a request was under way
 * is the next request, a batch; each is sent under the same key, over whatever works, until the broker says yes or no.
 */
import { backoff, lifetimeOf, sleep } from "./backoff.js";
import { ProblemError, TailwireError } from "./errors.js";
import { retryAfter } from "./http.js";
import * as limits from "./limits.js";
import { refuseUnknown } from "./options.js";
import type { Link, Surroundings } from "./transports/link.js";

export interface PublishOptions {
  /** Makes the publish once, however often it is sent; the client makes one up if it is left out. Good for ten minutes. */
  key?: string;
  /** The message's media type. The default is JSON, or `application/octet-stream` for bytes. */
  type?: string;
  /** The event's name, for `EventSource`. */
  event?: string;
  /** The message's key: its subject, stored and delivered as `key`. */
  messageKey?: string;
  /** The message's own headers. */
  headers?: Record<string, string>;
  /** How long to try, in milliseconds; a minute by default, nine at most. */
  timeout?: number;
  /** Sent at once, beside the others, in no order among them. */
  unordered?: boolean;
  signal?: AbortSignal | undefined;
}

export interface Receipt {
  cursor: string;
  topic: string;
  time: string;
}

export interface Publisher {
  publish(topic: string, data: unknown, options?: PublishOptions): Promise<Receipt>;
  /** A transport is there, or the hub is closed: a wait between tries has lost its reason. */
  wake(): void;
}

interface Entry {
  /** The message as a line of a batch; a Blob's has to be read first. */
  line: string | Promise<string>;
  /** A key of its own, under which it is sent alone. */
  key: string | undefined;
  /** Tries end at this time. */
  until: number;
  /** Aborted when the promise has settled, for whatever reason. */
  ended: AbortSignal;
  done(receipt: Receipt): void;
  fail(error: unknown): void;
}

/**
 * `link` gives the link that delivers at the moment; some take requests. Both ways send a batch: that is the form which
 * WebSocket and `POST` have in common, so that the broker knows either as a retry of the other.
 */
export function publisherOf({ http, clock, random, unique }: Surroundings, link: () => Link | undefined): Publisher {
  const queue: Entry[] = [];
  let running = false;
  let nap = lifetimeOf();

  return {
    async publish(topic, data, options = {}) {
      const { key, timeout = limits.publish, unordered, signal, messageKey, type, event, headers, ...left } = options;
      refuseUnknown(left);
      if (queue.length >= limits.queue) throw new TailwireError("queue-full", "Too many wait");
      const toLine = (data: unknown, type?: string): string => JSON.stringify({ topic, key: messageKey, event, headers, ...encode(data, type) });
      // A key that no header can have throws here.
      new Headers({ key: key ?? "" });
      // A Blob has its bytes and its type by itself; as JSON it would be `{}`. Anything else becomes a line at once, so that
      // what the caller does to the data later makes no difference; what is no JSON throws.
      const blob = data as Blob | undefined;
      const line = blob?.arrayBuffer ? blob.arrayBuffer().then((bytes) => toLine(bytes, type ?? blob.type)) : toLine(data, type);
      const limit = Math.min(timeout, limits.publish_max);
      return http.within(limit, signal, (ended) => new Promise<Receipt>((done, fail) => {
        const entry: Entry = { line, key, until: clock.now() + limit, ended, done, fail };
        (line as Promise<string>).catch?.(fail);
        if (unordered) return void send([entry]);
        queue.push(entry);
        if (!running) void run();
      }));
    },
    wake() {
      nap.end();
      nap = lifetimeOf();
    },
  };

  async function run(): Promise<void> {
    running = true;
    while (queue.length) await send(take());
    running = false;
  }

  /** The next batch: as many entries from the head of the queue as go into one request, without those that ended while they waited. */
  function take(): Entry[] {
    const batch: Entry[] = [];
    let length = 0;
    for (let next; (next = queue[0]); queue.shift()) {
      // With something for what surrounds it, so that there are fewer than the broker takes. How long a Blob is comes out later: it is sent alone.
      length += limits.line_overhead + (next.line as string).length || Infinity;
      if (batch.length && (next.key || batch[0]!.key || length > limits.line_length)) break;
      if (!next.ended.aborted) batch.push(next);
    }
    return batch;
  }

  /** Sends a batch until it is answered, or until no caller waits for it any more. */
  async function send(batch: readonly Entry[]): Promise<void> {
    const key = batch[0]?.key ?? unique();
    const headers = { "content-type": "application/x-ndjson", "idempotency-key": JSON.stringify(key) };
    const since = clock.now();
    for (let tries = 0; batch.some(({ ended }) => !ended.aborted); tries++) {
      let asked;
      try {
        const lines = await Promise.all(batch.map(({ line }) => line));
        const body = lines.join("\n");
        // After a failure the other way is tried, if there are two.
        // A body beyond the limit of a line goes by POST, where the refusal of one that is too large doesn't close the shared connection.
        asked = tries % 2 || body.length > limits.line_length ? undefined : link()?.request?.({ kind: "publish", messages: lines.map((line) => JSON.parse(line)), idempotency_key: key });
        const { receipts } = (await (asked ?? http.whole<object>("stream", { method: "POST", headers, body }))) as { receipts: Receipt[] };
        return batch.forEach(({ done }, n) => done(receipts[n]!));
      } catch (error) {
        // By POST, a token that is refused is replaced.
        if (asked && (error as ProblemError).status === 401) continue;
        if (error instanceof ProblemError && !error.temporary) {
          if (!batch[1]) return batch[0]!.fail(error);
          // A batch is stored whole or not at all. Which of them is at fault comes out when each is sent alone.
          for (const entry of batch) entry.key = unique();
          queue.unshift(...batch);
          return;
        }
        const wait = Math.max(retryAfter(error) ?? 0, backoff(clock.now() - since, random));
        const left = batch.filter(({ until, fail }) => clock.now() + wait <= until || fail(error));
        if (left.length) await sleep(clock, wait, nap);
      }
    }
  }
}

/** The members of a line for a body: JSON as it is, text in a string, bytes in base64. */
function encode(data: unknown, type?: string): object {
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (ArrayBuffer.isView(data)) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
    return { type: type || "application/octet-stream", encoding: "base64", data: btoa(text) };
  }
  return { type: type ?? "application/json", data };
}
