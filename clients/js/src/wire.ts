/**
 * The wire format, read: bytes of a stream become lines, lines become messages. Pure, and without any idea of
 * where bytes come from.
 */

/** A message as the application gets it. */
export interface Message<T = unknown> {
  /** Its place in the log. Store it to go on from here another time. */
  cursor: string;
  topic: string;
  /** When the broker accepted it, RFC 3339 in UTC. */
  time: string;
  /** JSON as published; a string for text; bytes for anything else; nothing where `deleted` is true. */
  data: T;
  type?: string;
  key?: string;
  event?: string;
  headers?: Record<string, string>;
  /** How many seconds it lives, if it says so itself. */
  max_age?: number;
  /** Its key was deleted. */
  deleted?: true;
}

/** Messages that a cursor has not seen and that no longer exist. */
export interface Gap {
  from: string;
  to: string;
  reason: string;
}

/** One line of the broker, by its `kind`. Unknown kinds and members pass, and mean nothing. */
export interface Line {
  kind: string;
  id?: number;
  sub?: number;
  cursor?: string;
  topic?: string;
  [member: string]: unknown;
}

/** A JSON object as a line, or undefined if the text is none. */
export function parseLine(text: string): Line | undefined {
  try {
    const line = JSON.parse(text) as unknown;
    return typeof (line as Line).kind === "string" ? (line as Line) : undefined;
  } catch {
    return undefined;
  }
}

/** A message line, or a page's member, as the application gets it. */
export function toMessage(line: object): Message {
  const { kind: _kind, sub: _sub, encoding, ...message } = line as Message & { kind?: string; sub?: number; encoding?: string };
  if (encoding === "base64") {
    message.data = Uint8Array.from(atob(message.data as string), (character) => character.charCodeAt(0));
  }
  return message;
}

/**
 * Reads an SSE response that was asked for with `envelope=true`: each block's data is one line. Feed it decoded text, cut
 * anywhere. SSE rather than NDJSON, as it is the endless response
 * that proxies know, and mostly let through. `retry` is called with the value of fields of that name.
 */
export function blockReader(retry: (text: string) => void): (text: string) => Line[] {
  let unfinished = "";
  let block: { data?: string; retry?: string } = {};
  /** Gives the lines that this piece of text completes. */
  return (text) => {
    const lines: Line[] = [];
    const fields = (unfinished + text).split(/\r?\n/);
    unfinished = fields.pop()!;
    for (const field of fields) {
      const [name, value] = field.split(/: (.*)/s);
      if (field) block[name as "data"] = value!;
      else {
        const line = parseLine(block.data!);
        if (line) lines.push(line);
        if (block.retry) retry(block.retry);
        block = {};
      }
    }
    return lines;
  };
}
