/** The queue of publishes: order, batches, keys, refusals, bounds. On virtual time. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TRANSPORTS, rig, upTo } from "./support/rig.mjs";

const lines = (body) => body.split("\n").map((line) => JSON.parse(line));
const receipts = (messages) => Response.json({ receipts: messages.map(({ topic }, n) => ({ cursor: `c${n}`, topic, time: "" })) }, { status: 201 });

/** A `fetch` that keeps each publish as its key and its lines, and answers as `judge` says, or in a second. */
function posting(clock, judge = () => undefined) {
  const posts = [];
  const fetch = async (_, { headers, body }) => {
    const messages = lines(body);
    posts.push({ key: headers["idempotency-key"], data: messages.map(({ data }) => data) });
    const answer = judge(messages, posts.length);
    await new Promise((resolve) => clock.setTimeout(resolve, 1000));
    if (answer instanceof Error) throw answer;
    return answer ?? receipts(messages);
  };
  return { fetch, posts };
}

const refusal = (status, code) => Response.json({ code, title: "No" }, { status });

for (const transport of TRANSPORTS) {
  test(`over ${transport}: publishes of an outage come in the order of the calls, as soon as there is a transport`, async () => {
    const { clock, broker, network, open } = rig();
    const hub = open({ transports: [transport] });
    hub.subscribe("a");
    await clock.advance(20_000);
    broker.down = true;
    network.cut(false);
    const published = upTo(50).map((n) => hub.publish("a", { n }));
    await clock.advance(10_000);
    broker.down = false;
    await clock.advance(1500);
    const stored = await Promise.all(published);
    assert.deepEqual(broker.log.map(({ data }) => data.n), upTo(50));
    assert.deepEqual(stored.map(({ cursor }) => cursor), broker.log.map(({ cursor }) => cursor));
    hub.close();
  });
}

describe("one request after the other", () => {
  test("the next one has all that came meanwhile; one with a key of its own goes alone, in its place", async () => {
    const { clock, open } = rig();
    const { fetch, posts } = posting(clock);
    const hub = open({ fetch, transports: ["poll"] });
    const published = upTo(6).map((n) => hub.publish("a", n, n === 3 ? { key: "own" } : {}));
    await clock.advance(6000);
    await Promise.all(published);
    assert.deepEqual(posts.map(({ data }) => data), [[0], [1, 2], [3], [4, 5]]);
    assert.equal(posts[2].key, '"own"');
    assert.equal(new Set(posts.map(({ key }) => key)).size, 4);
    hub.close();
  });

  test("a Blob has its place, though its bytes come later; one that can't be read delays no other", async () => {
    const { clock, open } = rig();
    const { fetch, posts } = posting(clock);
    const hub = open({ fetch, transports: ["poll"] });
    const broken = Object.assign(new Blob([]), { arrayBuffer: async () => { throw new Error("gone"); } });
    const [, blob, failed] = [hub.publish("a", 0), hub.publish("a", new Blob(["hi"])), hub.publish("a", broken), hub.publish("a", 3)];
    const rejected = assert.rejects(failed, ({ cause }) => cause.message === "gone");
    await clock.advance(9000);
    await Promise.all([blob, rejected]);
    assert.deepEqual(posts.map(({ data }) => data), [[0], ["aGk="], [3]]);
    hub.close();
  });

  test("retries keep their key and their messages", async () => {
    const { clock, open } = rig();
    const { fetch, posts } = posting(clock, (_, n) => (n < 4 ? new TypeError("cut") : undefined));
    const hub = open({ fetch, transports: ["poll"] });
    const first = hub.publish("a", 0);
    const second = hub.publish("a", 1);
    await clock.advance(30_000);
    await Promise.all([first, second]);
    const tries = posts.filter(({ data }) => data[0] === 0);
    assert.equal(new Set(tries.map(({ key }) => key)).size, 1);
    assert.deepEqual(posts.at(-1).data, [1]);
    hub.close();
  });

  test("a final refusal is rejected, and stops no other: a batch is taken apart", async () => {
    const { clock, open } = rig();
    const { fetch, posts } = posting(clock, (messages) => (messages.some(({ data }) => data === 2) ? refusal(403, "forbidden") : undefined));
    const hub = open({ fetch, transports: ["poll"] });
    const published = upTo(5).map((n) => hub.publish("a", n));
    const rejected = assert.rejects(published[2], { name: "AccessError", code: "forbidden" });
    await clock.advance(20_000);
    await Promise.all(published.filter((_, n) => n !== 2));
    await rejected;
    assert.deepEqual(posts.map(({ data }) => data), [[0], [1, 2, 3, 4], [1], [2], [3], [4]]);
    assert.equal(new Set(posts.map(({ key }) => key)).size, posts.length);
    hub.close();
  });

  test("unordered publishes pass a queue that waits, and cancelled ones aren't sent", async () => {
    const { clock, open } = rig();
    const { fetch, posts } = posting(clock, (messages) => (messages[0].data === "stuck" ? refusal(503, "storage-full") : undefined));
    const hub = open({ fetch, transports: ["poll"] });
    const stuck = assert.rejects(hub.publish("a", "stuck", { timeout: 8000 }), { status: 503, code: "storage-full" });
    const gone = assert.rejects(hub.publish("a", "gone", { timeout: 2000 }), { name: "NetworkError" });
    const behind = hub.publish("a", "behind");
    const passed = hub.publish("a", "passed", { unordered: true });
    await clock.advance(1500);
    await passed;
    await clock.advance(20_000);
    await Promise.all([stuck, gone, behind]);
    assert.ok(posts.findIndex(({ data }) => data[0] === "behind") > posts.findLastIndex(({ data }) => data[0] === "stuck"));
    assert.ok(!posts.some(({ data }) => data.includes("gone")));
    hub.close();
  });

  test("the queue takes ten thousand publishes", async () => {
    const { clock, network, open } = rig();
    network.http = "hangs";
    const hub = open({ transports: ["poll"] });
    const waiting = upTo(10_001).map((n) => hub.publish("a", n).catch(({ name }) => name));
    await assert.rejects(hub.publish("a", "one more"), { name: "TailwireError", code: "queue-full" });
    hub.close();
    await clock.advance(0);
    assert.deepEqual([...new Set(await Promise.all(waiting))], ["ClosedError"]);
  });
});

test("a publish that is answered wakes subscriptions that wait for their next try", async () => {
  const { clock, broker, network, open } = rig();
  const hub = open({ transports: ["websocket"], random: () => 1 });
  hub.subscribe("a");
  await clock.advance(20_000);
  broker.down = true;
  network.cut(false);
  await clock.advance(600_000);
  assert.equal(hub.state, "connecting");
  broker.down = false;
  const publishing = hub.publish("a", 1);
  await clock.advance(1500);
  await publishing;
  assert.equal(hub.state, "live");
  hub.close();
});

test("a token that a WebSocket no longer takes is replaced, and the publish done", async () => {
  const { clock, open } = rig();
  const sent = [];
  class Expired {
    constructor() {
      clock.setTimeout(() => (this.onopen({}), this.say({ kind: "welcome" })), 10);
    }
    say(line) {
      this.onmessage({ data: JSON.stringify(line) });
    }
    send(text) {
      const { id, kind } = JSON.parse(text);
      const answer = kind === "publish" ? { kind: "error", status: 401, code: "token-expired", title: "Expired" } : { kind: "ok", cursor: "000001-0000000000001" };
      clock.setTimeout(() => this.say({ ...answer, id }), 10);
    }
    close() {}
  }
  let tokens = 0;
  const fetch = async (_, { headers, body }) => (sent.push(headers.authorization), headers.authorization === "Bearer t2" ? receipts(lines(body)) : refusal(401, "token-expired"));
  const hub = open({ WebSocket: Expired, fetch, token: () => `t${++tokens}` });
  hub.subscribe("a");
  await clock.advance(1000);
  await Promise.all([hub.publish("a", 1), clock.advance(1000)]);
  assert.deepEqual(sent, ["Bearer t1", "Bearer t2"]);
  hub.close();
});
