/** How long the other side can make the client wait: `retry:`, `bye`, Retry-After. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { describe, test } from "node:test";
import { connect } from "../dist/tailwire.mjs";
import { rig } from "./support/rig.mjs";

/** An SSE block that says only where the reader stands. */
const sign = (cursor) => `id: ${cursor}\nevent: tailwire.heartbeat\ndata: ${JSON.stringify({ kind: "heartbeat", cursor })}\n\n`;

const CURSOR = "00000001-00000000001";
const QUARTER_OF_AN_HOUR = 900_000;

/** A `fetch` whose streams say this, and end. Pages are empty. */
function saying(text, clock, streams) {
  return async (url) => {
    if (!new URL(url).searchParams.has("envelope")) return Response.json({ messages: [], cursor: CURSOR, more: false });
    streams.push(clock.now());
    return new Response(text);
  };
}

/** When the second stream was asked for, after the first. */
async function backAfter(text, random) {
  const { clock, open } = rig();
  const streams = [];
  const hub = open({ transports: ["stream"], fetch: saying(text, clock, streams), random: () => random });
  hub.subscribe("a");
  while (streams.length < 2) await clock.advance(50);
  hub.close();
  return streams[1] - streams[0];
}

describe("a stream that ends", () => {
  const opening = (retry) => `retry: ${retry}\n${sign(CURSOR)}`;

  test("is asked for again when `retry:` says, by which the broker spreads its clients", async () => {
    assert.equal(await backAfter(opening(20_000), 0), 20_000);
    assert.equal(await backAfter(opening(20_000), 1), 20_000);
    assert.ok((await backAfter(sign(CURSOR), 1)) <= 1050);
  });

  test("the last `retry:` counts, also one alone in its block", async () => {
    assert.equal(await backAfter(`${opening(2000)}retry: 7000\n\n`, 0), 7000);
    assert.equal(await backAfter(`${opening(7000)}retry: 10\n\n`, 0), 10);
  });

  test("a wait is at most a quarter of an hour", async () => {
    const bye = (ms) => `${opening(2000)}event: tailwire.bye\ndata: {"kind":"bye","reason":"drain","retry_after_ms":${ms}}\n\n`;
    for (const text of [opening(1e12), opening("9".repeat(400)), bye(1e12), bye("1e999")]) assert.equal(await backAfter(text, 0), QUARTER_OF_AN_HOUR, text);
  });

  test("a malformed time is ignored", async () => {
    for (const retry of ["soon", "-5", "NaN", ""]) assert.equal(await backAfter(opening(retry), 1), 1000, retry);
  });
});

test("a Retry-After of years holds up a poll and a publish no longer", async () => {
  const { clock, open } = rig();
  const asked = [];
  const hub = open({ transports: ["poll"], random: () => 0, fetch: async () => (asked.push(clock.now()), new Response("busy", { status: 503, headers: { "retry-after": "99999999999" } })) });
  hub.subscribe("a");
  while (asked.length < 2) await clock.advance(1000);
  assert.ok(Math.abs(asked[1] - asked[0] - QUARTER_OF_AN_HOUR) <= 1000);
  hub.close();
});

test("over real HTTP: a stream that was cut off comes back after `retry:`, at its position", async () => {
  const at = (n) => CURSOR.replace(/.$/, n);
  const times = [];
  const afters = [];
  let cut;
  const server = createServer((request, response) => {
    const query = new URL(request.url, "http://broker").searchParams;
    if (!query.has("envelope")) return response.end(JSON.stringify({ messages: [], cursor: at(1), more: false }));
    times.push(Date.now());
    afters.push(query.get("after"));
    cut = () => request.socket.destroy();
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`retry: 700\n${sign(at(times.length + 1))}`);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const hub = connect(`http://127.0.0.1:${server.address().port}/`, { transports: ["stream"], random: () => 0 });
  // What is cut before it was read is lost with all it says.
  hub.subscribe("a").on("moved", ({ cursor }) => cursor > at(1) && cut());
  while (times.length < 3) await once(server, "request");
  hub.close();
  server.close();
  for (const n of [1, 2]) assert.ok(times[n] - times[n - 1] >= 690, `${times[n] - times[n - 1]} ms`);
  assert.deepEqual(afters, [1, 2, 3].map(at));
});
