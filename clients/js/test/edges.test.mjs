/** What applications, networks and platforms do to a hub that wishes them well, on virtual time. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { connect } from "../.build/index.js";
import { defaultPlatform } from "../.build/platform.js";
import { TRANSPORTS, rig, upTo } from "./support/rig.mjs";

for (const transport of TRANSPORTS) {
  describe(`over ${transport}`, () => {
    test("a subscription that is closed in its own callback gets no more events, and others go on", async () => {
      const { clock, open, publish } = rig();
      publish(0, 3);
      const hub = open({ transports: [transport] });
      const got = [];
      const others = [];
      const one = hub.subscribe("a", { after: "earliest" });
      one.on("message", ({ data }) => {
        got.push(data.n);
        if (data.n === 1 || data.n === 4) one.close();
      });
      hub.subscribe("a", { after: "earliest" }).on("message", ({ data }) => others.push(data.n));
      await clock.advance(5000);
      publish(3, 6);
      await clock.advance(5000);
      assert.deepEqual(got, [0, 1]);
      assert.deepEqual(others, upTo(6));
    });

    test("a hub that is closed in a callback is silent from then on", async () => {
      for (const name of ["message", "caught_up", "state", "transport"]) {
        const { clock, open, publish } = rig();
        publish(0, 3);
        const hub = open({ transports: [transport] });
        const heard = [];
        const close = () => {
          heard.push(name);
          hub.close();
        };
        const subscription = hub.subscribe("a", { after: "earliest" });
        if (name === "state") hub.on("state", (state) => state === "closed" || close());
        else if (name === "transport") hub.on(name, close);
        else subscription.on(name, close);
        // Events stand in their place among the messages, and wait where nobody takes these.
        if (name === "caught_up") subscription.on("message", () => {});
        await clock.advance(5000);
        publish(3, 6);
        await clock.advance(60_000);
        assert.deepEqual(heard, [name]);
        assert.equal(hub.state, "closed");
        assert.ok(subscription.closed);
      }
    });

    test("thousands of messages without a reader wait in the log, and cost no network", async () => {
      const { clock, network, open, publish } = rig();
      const hub = open({ transports: [transport] });
      const subscription = hub.subscribe("a", { after: "earliest" });
      await clock.advance(2000);
      publish(0, 3000);
      await clock.advance(10_000);
      publish(3000, 5000);
      await clock.advance(10_000);
      const requests = network.requests;
      publish(5000, 6000);
      await clock.advance(10_000);
      assert.ok(network.requests - requests <= 1, `${network.requests - requests} requests of a reader that sleeps`);
      const got = [];
      const reading = (async () => {
        for await (const { data } of subscription) if (got.push(data.n) === 6000) break;
      })();
      await clock.advance(120_000);
      await reading;
      assert.deepEqual(got, upTo(6000));
      assert.ok(subscription.closed);
    });

    test("an abort ends the loop in its middle, and undelivered messages stay in the log", async () => {
      const { clock, open, publish } = rig();
      publish(0, 10);
      const hub = open({ transports: [transport] });
      const abort = new AbortController();
      const subscription = hub.subscribe("a", { after: "earliest", signal: abort.signal });
      const got = [];
      const reading = (async () => {
        for await (const { data } of subscription) {
          got.push(data.n);
          if (data.n === 4) abort.abort();
        }
      })();
      await clock.advance(5000);
      await reading;
      assert.deepEqual(got, upTo(5));
      const rest = [];
      hub.subscribe("a", { after: subscription.cursor }).on("message", ({ data }) => rest.push(data.n));
      await clock.advance(5000);
      assert.deepEqual(rest, upTo(10, 5));
    });
  });
}

test("misuse: publishing before there is a connection, closing twice, going on after the end", async () => {
  const { clock, broker, open } = rig();
  const hub = open();
  const receipts = [hub.publish("a", { n: 0 }), hub.publish("a", { n: 1 })];
  hub.subscribe("a").close();
  const { closed } = hub.subscribe("a", { signal: AbortSignal.abort() });
  await clock.advance(2000);
  await Promise.all(receipts);
  assert.equal(closed, true);
  assert.equal(broker.log.length, 2);
  assert.equal(hub.state, "connecting");
  const late = hub.publish("a", { n: 2 }, { signal: AbortSignal.abort(new Error("changed my mind")) });
  await assert.rejects(late, { message: "changed my mind" });
  const circle = {};
  circle.circle = circle;
  await assert.rejects(hub.publish("a", circle), TypeError);
  await assert.rejects(hub.publish("a", 1n), TypeError);
  hub.close();
  hub.close();
  await assert.rejects(async () => hub.publish("a", 1), { name: "ClosedError", code: "closed" });
  await assert.rejects(hub.page("a"), { name: "ClosedError" });
  assert.throws(() => hub.subscribe("a"), { name: "ClosedError" });
  assert.throws(() => connect("no address"), TypeError);
  assert.throws(() => open({ transports: [] }), TypeError);
});

describe("a token callback", () => {
  const page = { messages: [], cursor: "00000001-00000000001", more: false };
  const answer = async (_, { headers }) => (headers?.authorization === "Bearer good" ? Response.json(page) : Response.json({ code: "unauthorized" }, { status: 401 }));

  test("that throws fails the requests that need it, with its error; the next call may succeed", async () => {
    const { clock, open } = rig();
    const cause = new Error("the session is over");
    let calls = 0;
    const hub = open({ transports: ["poll"], fetch: answer, token: () => (++calls > 3 ? "good" : Promise.reject(cause)) });
    await assert.rejects(hub.page("a"), { name: "TailwireError", code: "token", cause });
    const errors = [];
    hub.subscribe("a").on("error", (error) => errors.push(error));
    await clock.advance(60_000);
    assert.deepEqual(errors, []);
    assert.equal(hub.state, "live");
    assert.equal(calls, 4);
  });

  test("that hangs delays no request for ever", async () => {
    const { clock, open } = rig();
    let give;
    const hub = open({ transports: ["poll"], fetch: answer, token: () => new Promise((resolve) => (give = resolve)) });
    const lost = assert.rejects(hub.page("a"), { name: "TailwireError", code: "token" });
    const published = assert.rejects(hub.publish("a", 1, { timeout: 25_000 }), { name: "NetworkError" });
    await clock.advance(60_000);
    await lost;
    await published;
    const abort = new AbortController();
    const aborted = assert.rejects(hub.page("a", { signal: abort.signal }), { name: "AbortError" });
    abort.abort();
    await aborted;
    give("good");
    await clock.advance(1000);
    assert.deepEqual(await hub.page("a"), { messages: [], cursor: page.cursor, more: false });
  });
});

describe("a WebSocket that the broker closes with a code", () => {
  /** Opens, and is closed at once with this code. */
  const closing = (code, sockets) =>
    class {
      constructor() {
        sockets.push(this);
        queueMicrotask(() => (this.onopen({}), this.onclose({ code, reason: "" })));
      }
      send() {}
      close() {}
    };

  for (const [code, status] of [[1008, 403]]) {
    test(`${code}: not again`, async () => {
      const { clock, network, open } = rig();
      const sockets = [];
      const hub = open({ WebSocket: closing(code, sockets) });
      const subscription = hub.subscribe("a");
      const error = new Promise((resolve) => subscription.on("error", resolve));
      await clock.advance(600_000);
      assert.equal((await error).status, status);
      assert.equal((await error).name, "AccessError");
      assert.ok(subscription.closed);
      assert.deepEqual([sockets.length, network.requests], [1, 0]);
    });
  }

  for (const code of [1012, 1013]) {
    test(`${code}: later, and by WebSocket`, async () => {
      const { clock, network, open } = rig();
      const sockets = [];
      open({ WebSocket: closing(code, sockets) }).subscribe("a");
      await clock.advance(1900);
      assert.equal(sockets.length, 1);
      await clock.advance(60_000);
      assert.ok(sockets.length > 5 && sockets.length < 40, `${sockets.length} tries`);
      assert.equal(network.requests, 0);
    });
  }
});

describe("React Native", () => {
  /** Its `fetch` has the whole body or nothing, and no stream of it. */
  const whole = (fetch) => async (url, init) => {
    const { status, ok, headers, json } = await fetch(url, init);
    if (new URL(url).searchParams.has("envelope")) await new Promise((_, reject) => init.signal.addEventListener("abort", () => reject(new Error("aborted"))));
    return { status, ok, headers, json };
  };
  const bodiless = (fetch) => async (url, init) => ({ ...(await fetch(url, init)), body: undefined });

  for (const [name, wrap] of [["answers when the body is whole", whole], ["answers at once, without a body to read", bodiless]]) {
    test(`a fetch that ${name}: the fallback goes on to the long-poll`, async () => {
      const { clock, network, open, publish } = rig();
      network.websocket = "refused";
      const hub = open({ fetch: wrap(network.fetch) });
      const changes = [];
      hub.on("transport", (change) => changes.push(change));
      const got = [];
      hub.subscribe("a", { after: "earliest" }).on("message", ({ data }) => got.push(data.n));
      await clock.advance(8000);
      publish(0, 10);
      await clock.advance(2000);
      assert.deepEqual(got, upTo(10));
      assert.deepEqual(changes.map(({ to }) => to), ["long-poll"]);
      assert.equal((await probed(hub, clock)).stream.ok, false);
    });
  }

  test("signals have neither reasons nor throwIfAborted there", async () => {
    const { throwIfAborted, any, timeout } = Object.getOwnPropertyDescriptors(AbortSignal.prototype);
    assert.ok(throwIfAborted && !any && !timeout);
    delete AbortSignal.prototype.throwIfAborted;
    try {
      const { clock, open, publish } = rig();
      const hub = open();
      const got = [];
      hub.subscribe("a").on("message", ({ data }) => got.push(data.n));
      await clock.advance(2000);
      publish(0, 1);
      const receipt = hub.publish("a", { n: 1 }, { signal: new AbortController().signal });
      await clock.advance(2000);
      await receipt;
      assert.deepEqual(got, [0, 1]);
      hub.close();
      assert.throws(() => hub.subscribe("a"), { name: "ClosedError" });
    } finally {
      Object.defineProperty(AbortSignal.prototype, "throwIfAborted", throwIfAborted);
    }
  });
});

async function probed(hub, clock) {
  const probe = hub.probe();
  await clock.advance(10_000);
  return probe;
}

test("an ok without a cursor is no position, where another connection has found a start", async () => {
  const { clock, broker, open, publish } = rig();
  const asks = [];
  let socket;
  class Silent {
    constructor() {
      socket = this;
      // The stream opens beside it after a second, and finds the start a moment after this one was asked.
      clock.setTimeout(() => {
        this.onopen({});
        this.onmessage({ data: { kind: "welcome" } });
      }, 1005);
    }
    send(text) {
      const line = JSON.parse(text);
      if (line.kind === "subscribe") asks.push(line);
    }
    close() {}
  }
  const hub = open({ WebSocket: Silent });
  const got = [];
  const subscription = hub.subscribe("a");
  subscription.on("message", ({ data }) => got.push(data.n));
  await clock.advance(1010);
  assert.deepEqual(asks.map(({ after }) => after), ["latest"]);
  await clock.advance(90);
  assert.equal(subscription.cursor, broker.cursor());
  publish(0, 6);
  const { cursor, topic, time } = broker.log[5];
  socket.onmessage({ data: { kind: "ok", id: asks[0].id } });
  socket.onmessage({ data: { kind: "message", sub: asks[0].id, cursor, topic, time, data: { n: 5 } } });
  assert.deepEqual(asks.map(({ after }) => after), ["latest", broker.cursor(0)]);
  await clock.advance(500);
  assert.deepEqual(got, upTo(6));
});

describe("clocks", () => {
  test("the one that waits are measured by is not set back with the wall clock", () => {
    const { clock } = defaultPlatform();
    const [now, date] = [clock.now(), clock.date()];
    const real = Date.now;
    Date.now = () => real() - 3_600_000;
    try {
      assert.ok(clock.now() >= now && clock.now() - now < 1000);
      assert.ok(date - clock.date() > 3_500_000);
    } finally {
      Date.now = real;
    }
  });

  test("the wall clock is set back: a lost connection is back as soon as ever", async () => {
    const { clock, network, open } = rig();
    const hub = open({});
    hub.subscribe("a");
    await clock.advance(2000);
    network.cut(false);
    clock.set_ms = -3_600_000;
    await clock.advance(3000);
    assert.equal(hub.state, "live");
    hub.close();
  });

  test("the machine slept, and the clock of waits with it: the connection is renewed at the next look", async () => {
    const { clock, network, open } = rig();
    const hub = open({ transports: ["websocket"] });
    hub.subscribe("a");
    await clock.advance(2000);
    assert.equal(network.requests, 1);
    clock.set_ms = 600_000;
    await clock.advance(45_000);
    assert.equal(network.requests, 2);
    assert.equal(hub.state, "live");
    hub.close();
  });

  test("page loads that use the remembered transport don't extend its date", async () => {
    const { clock, open } = rig();
    const store = new Map([["tailwire https://broker.example/ ", JSON.stringify(["poll", clock.date()])]]);
    const storage = { getItem: (key) => store.get(key) ?? null, setItem: (key, value) => void store.set(key, value) };
    const seen = [];
    for (let load = 0; load < 4; load++) {
      await clock.advance(1_500_000);
      const hub = open({ storage });
      hub.on("transport", ({ to }) => seen.push(to));
      hub.subscribe("a");
      await clock.advance(10_000);
      hub.close();
    }
    assert.deepEqual(seen, ["poll", "poll", "websocket", "websocket"]);
  });
});
