/** What applications, platforms, brokers and proxies may give the client, and what it makes of it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { connect } from "../.build/index.js";
import { defaultPlatform } from "../.build/platform.js";
import { TRANSPORTS, rig } from "./support/rig.mjs";

describe("a hub's bounds", () => {
  test("a hundred subscriptions, however few topics they have; closed ones don't count", async () => {
    const { clock, open } = rig();
    const hub = open();
    const all = Array.from({ length: 100 }, () => hub.subscribe("a"));
    assert.throws(() => hub.subscribe("a"), { name: "TailwireError", code: "filter-too-large" });
    all[0].close();
    hub.subscribe("a");
    for (let n = 0; n < 200; n++) {
      all[1].close();
      all[1] = hub.subscribe("a");
    }
    await clock.advance(1000);
    assert.equal(hub.state, "live");
    hub.close();
  });

  test("one that the broker finds too many fails by itself: the others stay where they are", async () => {
    const { clock, open } = rig();
    let sockets = 0;
    class Full {
      constructor() {
        sockets++;
        clock.setTimeout(() => (this.onopen({}), this.say({ kind: "welcome" })), 10);
      }
      say(line) {
        this.onmessage({ data: JSON.stringify(line) });
      }
      send(text) {
        const { id, kind, topic } = JSON.parse(text);
        if (kind !== "subscribe") return;
        const full = { kind: "error", status: 429, code: "subscriptions-too-many", title: "Too many", retry_after_ms: 1000 };
        clock.setTimeout(() => this.say({ ...(topic[0] === "b" ? full : { kind: "ok", cursor: "00000001-00000000001" }), id }), 10);
      }
      close() {}
    }
    const hub = open({ WebSocket: Full });
    const [good, bad] = ["a", "b"].map((topic) => hub.subscribe(topic));
    const failed = new Promise((resolve) => bad.on("error", resolve));
    await clock.advance(5000);
    assert.equal((await failed).code, "subscriptions-too-many");
    assert.deepEqual([good.closed, bad.closed, hub.state, sockets], [false, true, "live", 1]);
    hub.close();
  });
});

test("invalid addresses and buffers are refused", () => {
  const { open } = rig();
  for (const url of ["ftp://broker.example/", "ws://broker.example/", "data:,x"]) assert.throws(() => connect(url), TypeError);
  const hub = open();
  for (const buffer of [0, -1, NaN, "some"]) assert.throws(() => hub.subscribe("a", { buffer }), RangeError);
  hub.subscribe("a", { buffer: 1 }).close();
  hub.close();
  for (const url of ["rt.example.com", "localhost:8245", "rt.example.com:8245/rt", "//", "file:///x", ""]) assert.throws(() => connect(url), TypeError, url);
  for (const url of ["http://localhost:8245", "HTTPS://rt.example.com/rt", new URL("http://localhost/")]) connect(url).close();
});

test("a path of the page's own origin is an address", async () => {
  const asked = [];
  globalThis.location = { href: "https://app.example/shop/basket" };
  try {
    const hub = connect("/rt", { fetch: async (url) => (asked.push(url), Response.json({ messages: [] })) });
    await hub.page("a");
    hub.close();
  } finally {
    delete globalThis.location;
  }
  assert.ok(asked[0].startsWith("https://app.example/rt/stream?"));
});

test("an unknown option is refused at once, by its name", async () => {
  const { open } = rig();
  assert.throws(() => open({ tokens: "t" }), { name: "TypeError", message: /tokens/ });
  const hub = open();
  assert.throws(() => hub.subscribe("a", { since: "earliest" }), { name: "TypeError", message: /since/ });
  await assert.rejects(hub.page("a", { limt: 1 }), { name: "TypeError", message: /limt/ });
  await assert.rejects(hub.publish("a", 1, { idempotencyKey: "k" }), { name: "TypeError", message: /idempotencyKey/ });
  hub.close();
});

test("a subscription that fails reports once: to its listeners, to its loop, or else on the console", async () => {
  const complaints = [];
  const { error: real } = console;
  console.error = (error) => complaints.push(error.code);
  try {
    const { clock, open } = rig();
    const fetch = async () => Response.json({ code: "topic-invalid", title: "No" }, { status: 400 });
    const hub = open({ fetch, transports: ["long-poll"] });
    hub.subscribe("a//b").on("message", () => {});
    const errors = [];
    hub.subscribe("b//c").on("error", (error) => errors.push(error.code));
    const loop = assert.rejects(async () => { for await (const _ of hub.subscribe("c//d")) assert.fail(); }, { code: "topic-invalid" });
    await clock.advance(5000);
    await loop;
    assert.deepEqual([complaints, errors], [["topic-invalid"], ["topic-invalid"]]);
    hub.close();
  } finally {
    console.error = real;
  }
});

describe("many topics", () => {
  const names = (count, length) => Array.from({ length: count }, (_, n) => `${n}/`.padEnd(length, "x"));

  test("a filter that is too long for a URL goes as a body with the same parameters", async () => {
    const { clock, network, open } = rig();
    network.websocket = "refused";
    const asked = [];
    const fetch = async (url, init) => {
      const { pathname, search } = new URL(url);
      asked.push([init.method, pathname, `${search.slice(1)}${init.body ?? ""}`]);
      return network.fetch(init.body ? `${url}?${init.body}` : url, init);
    };
    const hub = open({ fetch });
    const all = names(100, 255);
    const subscription = hub.subscribe(all);
    await clock.advance(5000);
    assert.equal(hub.state, "degraded");
    assert.equal(subscription.closed, false);
    const page = hub.page(all.slice(0, 40), { limit: 5 });
    const short = hub.page(all.slice(0, 2), { limit: 5 });
    await clock.advance(1000);
    await Promise.all([page, short]);
    const large = asked.filter(([method]) => method === "QUERY");
    assert.ok(large.length > 2 && large.every(([, path]) => path === "/stream"));
    assert.deepEqual(new URLSearchParams(large[0][2]).getAll("topic"), all);
    assert.ok(asked.every(([method, , query]) => (method === "QUERY") === query.length > 7000 || method === "POST"), "others are plain");
    hub.close();
  });

  test("a proxy that refuses long addresses: `failure` says so of each transport, and `probe()` too, as it asks for all", async () => {
    const { clock, network, open } = rig();
    network.websocket = "refused";
    const fetch = async (url, init) => (url.length > 2000 ? new Response("<html>", { status: 502 }) : network.fetch(url, init));
    const hub = open({ fetch });
    const failures = [];
    hub.on("failure", ({ transport, why }) => failures.push([transport, /502|handshake/.test(why)]));
    for (const topic of names(40, 60)) hub.subscribe(topic);
    await clock.advance(20_000);
    assert.deepEqual(failures.sort(), TRANSPORTS.map((transport) => [transport, true]).sort());
    assert.equal(hub.state, "connecting");
    const probing = hub.probe();
    await clock.advance(20_000);
    assert.deepEqual(Object.values(await probing).map(({ ok }) => ok), [false, false, false, false]);
    hub.close();
  });
});

test("a token that is a string is used as it is, and its refusal is reported", async () => {
  const { open } = rig();
  const bearers = [];
  const fetch = async (_, { headers }) => (bearers.push(headers.authorization), bearers.length > 1 ? Response.json({ code: "token-invalid" }, { status: 401 }) : Response.json({ messages: [] }));
  const hub = open({ fetch, token: "secret" });
  await hub.page("a");
  await assert.rejects(hub.page("a"), { name: "AccessError", code: "token-invalid" });
  assert.deepEqual([...new Set(bearers)], ["Bearer secret"]);
  hub.close();
});

test("a Blob is published as its bytes, with its type", async () => {
  const bodies = [];
  const { open } = rig();
  const fetch = async (_, { body }) => (bodies.push(JSON.parse(body)), Response.json({ receipts: [{}] }, { status: 201 }));
  const hub = open({ fetch, transports: ["poll"] });
  await hub.publish("a", new Blob(["hi"], { type: "text/css" }));
  await hub.publish("a", new Blob(["hi"]));
  await hub.publish("a", new Blob(["hi"]), { type: "own/type" });
  await hub.publish("a", undefined, { type: "text/plain" });
  assert.deepEqual(bodies.slice(0, 3).map(({ data }) => data), ["aGk=", "aGk=", "aGk="]);
  assert.deepEqual(bodies.map(({ type }) => type), ["text/css", "application/octet-stream", "own/type", "text/plain"]);
  hub.close();
});

test("changes of the data after the call make no difference, however often it is sent", async () => {
  const { clock, network, broker, open } = rig();
  const hub = open({ transports: ["websocket"], random: () => 0 });
  hub.subscribe("a");
  await clock.advance(1000);
  // The first try, by WebSocket, and the second, by POST, get no answer.
  network.cut(true);
  network.http = "502";
  const data = { n: 1 };
  const publishing = hub.publish("a", data);
  data.n = 2;
  await clock.advance(6000);
  network.cut();
  await clock.advance(30_000);
  await publishing;
  assert.deepEqual(broker.log.map(({ data }) => data), [{ n: 1 }]);
  hub.close();
});

describe("the platform", () => {
  /** With other globals for a moment. */
  const globally = (name, value, run) => {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    try {
      run();
    } finally {
      if (before) Object.defineProperty(globalThis, name, before);
      else delete globalThis[name];
    }
  };

  test("a change of the network's speed is no change of network", () => {
    const connection = Object.assign(new EventTarget(), { type: "wifi" });
    const heard = [];
    globally("navigator", { connection }, () => {
      const stop = defaultPlatform().network.listen((event) => heard.push(event));
      const change = (type) => {
        connection.type = type;
        connection.dispatchEvent(new Event("change"));
        return heard.length;
      };
      assert.deepEqual(["wifi", "wifi", "cellular", "cellular", "wifi"].map(change), [0, 0, 1, 1, 2]);
      stop();
      assert.equal(change("none"), 2);
    });
    assert.deepEqual(heard, ["network", "network"]);
  });

  test("a timer that is due in months doesn't fire at once", () => {
    const waits = [];
    globally("setTimeout", (_, ms) => waits.push(ms), () => {
      const { clock } = defaultPlatform();
      for (const ms of [5, 2 ** 31 - 1, 2 ** 31, Infinity]) clock.setTimeout(() => {}, ms);
    });
    assert.deepEqual([waits[0], waits.length], [5, 4]);
    assert.ok(waits.slice(1).every((ms) => ms > 20 * 86_400_000 && ms < 2 ** 31), `${waits}`);
  });

  test("the `fetch` of a page, given as it is, is called as it has to be", async () => {
    const { open } = rig();
    const page = { messages: [], cursor: "00000001-00000000001", more: false };
    const fetch = async function () {
      assert.equal(this, undefined);
      return Response.json(page);
    };
    assert.deepEqual(await open({ fetch }).page("a"), page);
  });
});

test("Retry-After in seconds, as a future date, as a past one, malformed", async () => {
  const { clock, open } = rig();
  const date = (ms) => new Date(clock.now() + ms).toUTCString();
  const expected = [["7", 7000], [date(9000), 9000], [date(-9000), undefined], ["soon", undefined], [null, undefined]];
  for (const [value, ms] of expected) {
    const headers = value === null ? {} : { "retry-after": value };
    const hub = open({ fetch: async () => new Response("busy", { status: 503, headers }) });
    await assert.rejects(hub.page("a"), ({ problem }) => problem.retry_after_ms === ms);
    hub.close();
  }
});

test("a JWT that lives for seconds is used for half of its lifetime; one that is over by our clock, until it is refused", async () => {
  const jwt = (seconds) => `x.${Buffer.from(JSON.stringify({ exp: seconds })).toString("base64url")}.x`;
  for (const [lifetime, calls] of [[20_000, [1, 1, 2]], [-3_600_000, [1, 1, 1]]]) {
    const { clock, open } = rig();
    let asked = 0;
    const fetch = async () => Response.json({ messages: [] });
    const hub = open({ fetch, token: () => (asked++, jwt((clock.now() + lifetime) / 1000)) });
    const counts = [];
    for (const wait of [0, 9000, 2000]) {
      await clock.advance(wait);
      await hub.page("a");
      counts.push(asked);
    }
    assert.deepEqual(counts, calls);
    hub.close();
  }
});

describe("publishes beyond a line or a header", () => {
  for (const transport of ["websocket", "long-poll"]) {
    test(`over ${transport}: a message beyond a line goes by POST, and closes no connection`, async () => {
      const { clock, network, open } = rig();
      const posts = [];
      const hub = open({ transports: [transport], fetch: (url, init) => (init.method && posts.push(init.body.length), network.fetch(url, init)) });
      hub.subscribe("a");
      await clock.advance(2000);
      const small = hub.publish("a", "x");
      const large = hub.publish("a", "\u4e2d".repeat(700_000));
      await clock.advance(1000);
      await Promise.all([small, large]);
      assert.equal(posts.length, transport === "websocket" ? 1 : 2);
      assert.ok(posts.at(-1) > 700_000);
      hub.close();
    });

    test(`over ${transport}: a key that no header can have is refused at once`, async () => {
      const { clock, network, open } = rig();
      const hub = open({ transports: [transport] });
      hub.subscribe("a");
      await clock.advance(2000);
      const before = network.requests;
      await assert.rejects(hub.publish("a", 1, { key: "\u043a\u043b\u044e\u0447" }), TypeError);
      assert.equal(network.requests, before);
      hub.close();
    });
  }

  test("a start by time has no position until the broker gives one", async () => {
    for (const after of ["2026-11-30T10:00:00Z", "2026-11-30T10:00:00.123Z", "-10m", "latest"]) {
      const { clock, open } = rig();
      const asked = [];
      const hub = open({ transports: ["poll"], fetch: async (url) => (asked.push(new URL(url).searchParams.get("after")), Response.json({ messages: [], cursor: "1-1", more: false })) });
      const subscription = hub.subscribe("a", { after });
      assert.equal(subscription.cursor, undefined);
      await clock.advance(10_000);
      assert.deepEqual([asked[0], asked.at(-1)], [after, "1-1"]);
      hub.close();
    }
    const { open } = rig();
    const hub = open();
    assert.equal(hub.subscribe("a", { after: "01lchq00-000003lnj8l" }).cursor, "01lchq00-000003lnj8l");
    hub.close();
  });

  test("`last: 0` is no start", async () => {
    const { clock, network, open } = rig();
    const asked = [];
    const hub = open({ transports: ["long-poll"], fetch: (url, init) => (asked.push(new URL(url).searchParams), network.fetch(url, init)) });
    hub.subscribe("a", { last: 0 });
    await clock.advance(2000);
    assert.deepEqual([asked[0].get("last"), asked[0].get("after")], [null, "latest"]);
    hub.close();
  });
});

test("an answer that is JSON of something else is an error with a class", async () => {
  for (const body of ["{}", "null", "[]", '{"messages":7}']) {
    const { open } = rig();
    const hub = open({ fetch: async () => new Response(body) });
    await assert.rejects(hub.page("a"), { name: "NetworkError", code: "network" });
    hub.close();
  }
});
