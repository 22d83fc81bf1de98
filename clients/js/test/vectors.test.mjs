/** The vectors that this client shares with the broker: what it reads and writes itself. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { matches, streamPath } from "../.build/topics.js";
import { blockReader, parseLine, toMessage } from "../.build/wire.js";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), "utf8"));

test("patterns match the same topics", () => {
  for (const { term, topics, expect } of vectors("patterns")) {
    if (typeof expect !== "string") assert.deepEqual(topics.filter((topic) => matches(term, topic)), expect.matches, term);
  }
});

test("cursors sort as strings, and are opaque but for that", () => {
  const sorts = vectors("cursors").filter(({ sort }) => sort);
  assert.ok(sorts.length);
  for (const { sort, expect } of sorts) assert.deepEqual([...sort].sort(), expect);
});

test("names are encoded for a query as forms do it", () => {
  for (const { encode, expect } of vectors("paths")) {
    const name = encode ?? expect.term;
    if (name) assert.deepEqual(new URLSearchParams(streamPath([name, "b"], { limit: 1, gap: undefined }).split("?")[1]).getAll("topic"), [name, "b"]);
  }
  assert.equal(streamPath(["a/*"], { after: "latest", gap: undefined }), "stream?topic=a%2F*&after=latest");
});

test("lines are read", () => {
  for (const { message, control, expect, sub, omitted_depth } of vectors("lines")) {
    const line = parseLine(expect);
    assert.equal(line.kind, control ?? "message");
    if (sub !== undefined) assert.deepEqual(line.sub, JSON.parse(sub));
    if (!message) continue;
    const read = toMessage(line);
    assert.equal(read.cursor, message.cursor);
    assert.equal(read.topic, message.topic);
    // The format ends with the year 9999.
    assert.equal(Date.parse(read.time), Math.min(message.time_ms, 253_402_300_799_999));
    assert.equal(read.type, message.type);
    assert.deepEqual(read.data, omitted_depth !== undefined || line.deleted ? undefined : dataOf(message, line));
    assert.equal(read.deleted, message.deleted);
    assert.ok(!("kind" in read) && !("sub" in read) && !("encoding" in read));
  }
});

/** What the body should have become, by its type. */
function dataOf({ type, body, body_hex, times }, line) {
  const bytes = body_hex === undefined ? Buffer.from(body.repeat(times ?? 1)) : Buffer.from(body_hex, "hex");
  if (line.encoding) return new Uint8Array(bytes);
  return /json/i.test(type ?? "") ? JSON.parse(bytes.toString()) : bytes.toString();
}

test("blocks of SSE with envelopes are read alike, wherever they are split", () => {
  const cases = vectors("sse").filter(({ envelope, control }) => envelope || control);
  const text = cases.map(({ expect }) => expect).join("");
  const bytes = Buffer.from(text);
  const whole = blockReader(() => {})(text);
  assert.deepEqual(whole.map(({ kind }) => kind), cases.map(({ control }) => (control === "open" ? "heartbeat" : (control ?? "message"))));
  for (let cut = 0; cut <= bytes.length; cut++) assert.deepEqual(read([bytes.subarray(0, cut), bytes.subarray(cut)]), whole);
  assert.deepEqual(read([...bytes].map((byte) => Buffer.of(byte))), whole);
});

test("all lines in SSE envelopes, split at every byte", () => {
  for (const { expect } of vectors("lines")) {
    const line = parseLine(expect);
    const bytes = Buffer.from(`id: ${line.cursor}\r\ndata: ${expect}\r\n\r\n`);
    for (let cut = 0; cut <= Math.min(bytes.length, 2000); cut++) assert.deepEqual(read([bytes.subarray(0, cut), bytes.subarray(cut)]), [line]);
  }
});

test("`retry:` is read, wherever it is split", () => {
  const cases = vectors("sse").filter(({ retry_ms, retry_after_ms }) => retry_ms ?? retry_after_ms);
  assert.deepEqual([...new Set(cases.map(({ control }) => control))], ["open", "bye"]);
  for (const { expect, retry_ms, retry_after_ms } of cases) {
    for (let cut = 0; cut <= expect.length; cut++) {
      const heard = [];
      const read = blockReader((text) => heard.push(Number(text)));
      for (const piece of [expect.slice(0, cut), expect.slice(cut)]) read(piece);
      assert.deepEqual(heard, [retry_ms ?? retry_after_ms]);
    }
  }
});

test("a malformed line is ignored", () => {
  for (const text of ["", "null", "1", "[]", "{}", '{"kind":1}', "{", '"kind"']) assert.equal(parseLine(text), undefined);
  assert.deepEqual(blockReader(() => {})("<html>\n\ndata: {\n\n: comment\n\nid: x\n\n"), []);
});

function read(pieces) {
  const read = blockReader(() => {});
  const decoder = new TextDecoder();
  return pieces.flatMap((piece) => read(decoder.decode(piece, { stream: true })));
}
