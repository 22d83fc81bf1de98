/** Tokens on connections that last: replaced in time, and never at the cost of a transport. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import WebSocket, { WebSocketServer } from "ws";
import { connect } from "../dist/tailwire.mjs";
import { TRANSPORTS, rig, upTo } from "./support/rig.mjs";

const CURSOR = "00000001-00000000001";
const jwt = (ends_ms, name = "") => `${name}.${Buffer.from(JSON.stringify({ exp: ends_ms / 1000 })).toString("base64url")}.x`;

/** What a broker with access control says to the lines of one client. `judge` answers whether a token is good. */
function answers({ id, kind, token }, judge) {
  if (kind === "authenticate" && !judge(token)) return [{ kind: "error", id, status: 401, code: "unauthorized", title: "No" }];
  if (kind === "subscribe") return [{ kind: "ok", id, cursor: CURSOR }, { kind: "caught_up", sub: id, cursor: CURSOR }];
  return [{ kind: "ok", id }];
}

/** A real one, by WebSocket alone. */
async function guarded(judge = () => true) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  const guard = { url: `http://127.0.0.1:${server.address().port}/`, tokens: [], times: [], sockets: [], close: () => (server.clients.forEach((client) => client.terminate()), server.close()) };
  server.on("connection", (socket) => {
    guard.sockets.push(socket);
    const say = (line) => socket.send(JSON.stringify(line));
    say({ kind: "welcome", authenticate: true });
    socket.on("message", (data) => {
      const line = JSON.parse(data);
      if (line.kind === "authenticate") (guard.tokens.push(line.token), guard.times.push(Date.now()));
      answers(line, judge).forEach(say);
      server.emit("line", line);
    });
  });
  guard.heard = async (count) => {
    while (guard.tokens.length < count) await once(server, "line");
  };
  return guard;
}

describe("over a real WebSocket", () => {
  test("the next token is given before the last one ends, on the same connection", async () => {
    const guard = await guarded();
    const reasons = [];
    const ends = Date.now() + 3000;
    const given = [jwt(ends, "first"), jwt(ends + 3_600_000, "second")];
    const hub = connect(guard.url, { WebSocket, transports: ["websocket"], token: ({ reason }) => given[reasons.push(reason) - 1] });
    const subscription = hub.subscribe("a");
    const states = [];
    hub.on("state", (state) => states.push(state));
    await guard.heard(2);
    assert.deepEqual(guard.tokens, given);
    assert.ok(guard.times[1] < ends);
    guard.sockets[0].send(JSON.stringify({ kind: "message", cursor: CURSOR.replace(/.$/, 2), topic: "a", data: 1 }));
    await new Promise((resolve) => subscription.on("message", resolve));
    assert.deepEqual([reasons, guard.sockets.length, states], [["first", "expires"], 1, ["live"]]);
    hub.close();
    guard.close();
  });

  test("one that is refused is replaced once; then the application gets the error", async () => {
    for (const good of ["t2", "none"]) {
      const guard = await guarded((token) => token === good);
      let count = 0;
      const hub = connect(guard.url, { WebSocket, transports: ["websocket"], token: () => `t${++count}` });
      const subscription = hub.subscribe("a");
      const outcome = await new Promise((resolve) => (subscription.on("error", resolve), subscription.on("caught_up", () => resolve("caught up"))));
      assert.equal(outcome.status ?? outcome, good === "t2" ? "caught up" : 401);
      assert.deepEqual([guard.tokens, guard.sockets.length], [["t1", "t2"], 1]);
      hub.close();
      guard.close();
    }
  });
});

/** The same broker on virtual time, as a class. */
function guardedClass(clock, judge = () => true) {
  const heard = { tokens: [], sockets: 0 };
  class Guarded {
    constructor() {
      heard.sockets++;
      this.later([{ kind: "welcome", authenticate: true }], () => this.onopen({}));
    }
    later(lines, before = () => {}) {
      clock.setTimeout(() => {
        before();
        for (const line of lines) this.onmessage({ data: JSON.stringify(line) });
      }, 10);
    }
    send(text) {
      const line = JSON.parse(text);
      if (line.kind === "authenticate") heard.tokens.push(line.token);
      this.later(answers(line, judge));
    }
    close() {}
  }
  return { WebSocket: Guarded, heard };
}

describe("an open WebSocket whose token is about to end", () => {
  const MINUTES = 60_000;
  const quiet = async (clock, socket, ms) => {
    // Heartbeats would come; here the client is left alone for less than it tolerates.
    for (let passed = 0; passed < ms; passed += 10_000) {
      await clock.advance(10_000);
      socket?.().onmessage({ data: JSON.stringify({ kind: "heartbeat", cursor: CURSOR }) });
    }
  };
  const watched = (clock, judge) => {
    const made = guardedClass(clock, judge);
    let last;
    const Watched = class extends made.WebSocket {
      constructor() {
        super();
        last = this;
      }
    };
    return { ...made, WebSocket: Watched, socket: () => last };
  };

  test("stays open when the source fails, and the next try is in time", async () => {
    const { clock, open } = rig();
    const { WebSocket, heard, socket } = watched(clock);
    const tokens = [() => jwt(clock.now() + 10 * MINUTES), () => Promise.reject(new Error("down")), () => jwt(clock.now() + 60 * MINUTES)];
    let calls = 0;
    const hub = open({ WebSocket, transports: ["websocket"], token: () => tokens[calls++]() });
    hub.subscribe("a");
    await quiet(clock, socket, 10 * MINUTES);
    assert.deepEqual([calls, new Set(heard.tokens).size, heard.sockets, hub.state], [3, 2, 1, "live"]);
    hub.close();
  });

  test("a source that gives the same one again isn't asked without pause", async () => {
    const { clock, open } = rig();
    const { WebSocket, heard, socket } = watched(clock);
    const token = jwt(clock.now() + 2 * MINUTES);
    let calls = 0;
    const hub = open({ WebSocket, transports: ["websocket"], token: () => (calls++, token) });
    hub.subscribe("a");
    await quiet(clock, socket, 30 * MINUTES);
    assert.ok(calls > 1 && calls < 12, `${calls} calls`);
    assert.equal(heard.tokens.length, calls);
    hub.close();
  });

  test("one of another kind is never replaced by itself", async () => {
    const { clock, open } = rig();
    const { WebSocket, heard, socket } = watched(clock);
    const hub = open({ WebSocket, transports: ["websocket"], token: () => "opaque" });
    hub.subscribe("a");
    await quiet(clock, socket, 60 * MINUTES);
    assert.deepEqual([heard.tokens, heard.sockets], [["opaque"], 1]);
    hub.close();
  });

  test("without a source of tokens, no authentication is sent to a broker that wants one", async () => {
    const { clock, open } = rig();
    const { WebSocket, heard, socket } = watched(clock);
    const hub = open({ WebSocket, transports: ["websocket"] });
    hub.subscribe("a");
    await quiet(clock, socket, 2 * MINUTES);
    assert.deepEqual([heard.tokens, hub.state], [[], "live"]);
    hub.close();
  });
});

test("a stream that the broker ends because its token did comes back with another", async () => {
  const { clock, network, open } = rig();
  const bearers = [];
  const fetch = async (url, init) => {
    if (!new URL(url).searchParams.has("envelope")) return network.fetch(url, init);
    bearers.push(init.headers.authorization);
    if (bearers.length > 1) return network.fetch(url, init);
    const encoder = new TextEncoder();
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(encoder.encode(`retry: 100\nid: ${CURSOR}\nevent: tailwire.open\ndata: ${JSON.stringify({ kind: "heartbeat", cursor: CURSOR })}\n\n`));
        clock.setTimeout(() => controller.enqueue(encoder.encode('event: tailwire.bye\ndata: {"kind":"bye","reason":"expired","retry_after_ms":100}\n\n')), 35_000);
      },
    });
    return new Response(body);
  };
  const given = [jwt(clock.now() + 36_000), jwt(clock.now() + 9_000_000)];
  let calls = 0;
  const hub = open({ transports: ["stream"], fetch: (url, init) => fetch(url, init), token: () => given[calls++], random: () => 0 });
  hub.subscribe("a");
  while (bearers.length < 2) await clock.advance(100);
  assert.notEqual(bearers[0], bearers[1]);
  assert.equal(bearers.at(-1), `Bearer ${given[calls - 1]}`);
  hub.close();
});

describe("a slow source", () => {
  /** Twenty seconds; any transport would have been given up. */
  const slow = (clock, calls = []) => () => new Promise((resolve) => (calls.push(clock.now()), clock.setTimeout(() => resolve("good"), 20_000)));

  for (const transport of TRANSPORTS) {
    test(`isn't taken for a bad network: ${transport}`, async () => {
      const { clock, network, open, publish } = rig();
      const { WebSocket } = guardedClass(clock);
      const calls = [];
      // All transports from this one down: if it were given up, another would be active.
      const hub = open({ transports: TRANSPORTS.slice(TRANSPORTS.indexOf(transport)), ...(transport === "websocket" && { WebSocket }), token: slow(clock, calls) });
      const changes = [];
      hub.on("transport", (change) => changes.push(change));
      const got = [];
      hub.subscribe("a").on("message", ({ data }) => got.push(data.n));
      await clock.advance(19_000);
      assert.deepEqual([changes, network.requests], [[], 0]);
      await clock.advance(3000);
      assert.deepEqual(changes.map(({ to, why }) => [to, why]), [[transport, "it is the first choice"]]);
      assert.equal(calls.length, 1);
      if (transport !== "websocket") {
        publish(0, 3);
        await clock.advance(60_000);
        assert.deepEqual(got, upTo(3));
      }
      assert.equal(changes.length, 1);
      hub.close();
    });
  }

  test("longer than the broker waits for one: the WebSocket is opened when it is there", async () => {
    const { clock, open } = rig();
    const { WebSocket, heard } = guardedClass(clock);
    const Impatient = class extends WebSocket {
      constructor() {
        super();
        const before = heard.tokens.length;
        clock.setTimeout(() => heard.tokens.length > before || this.onclose({ code: 3000, reason: "" }), 10_000);
      }
    };
    const hub = open({ WebSocket: Impatient, transports: ["websocket"], token: slow(clock) });
    const subscription = hub.subscribe("a");
    await clock.advance(30_000);
    assert.deepEqual([subscription.closed, hub.state, heard.sockets, heard.tokens], [false, "live", 1, ["good"]]);
    hub.close();
  });

  test("doesn't hide a connection that has died", async () => {
    const { clock, network, open } = rig();
    let dead = false;
    const asked = [];
    const token = () => (asked.push(clock.now()), dead ? new Promise(() => {}) : jwt(clock.now() + 60_000));
    const hub = open({ token, transports: ["stream"] });
    hub.subscribe("a");
    await clock.advance(20_000);
    assert.equal(hub.state, "live");
    network.cut(true);
    dead = true;
    const calls = asked.length;
    const timer = setInterval(() => {}, 1000);
    for (let n = 0; n < 42; n++) {
      hub.publish("a", n).catch(() => {});
      await clock.advance(1000);
    }
    clearInterval(timer);
    assert.ok(asked.length > calls);
    assert.equal(hub.state, "connecting");
    hub.close();
  });

  test("however many need one, a source that throws is left alone for a while; they share its failure", async () => {
    const { clock, open } = rig();
    let calls = 0;
    const hub = open({ token: () => (calls++, Promise.reject(new Error("down"))) });
    const outcomes = Array.from({ length: 80 }, (_, n) => hub.publish("a", n, { timeout: 8000 }).catch(({ code }) => code));
    hub.subscribe("a");
    await clock.advance(9000);
    assert.ok((await Promise.all(outcomes)).every((code) => code === "token" || code === "network"));
    assert.ok(calls <= 4, `${calls} calls`);
    hub.close();
  });

  test("so is one that gives the refused token again", async () => {
    const { clock, open } = rig();
    let calls = 0;
    const fetch = async () => new Promise((resolve) => clock.setTimeout(() => resolve(Response.json({ code: "unauthorized", title: "No" }, { status: 401 })), 300 * (calls % 3)));
    const hub = open({ fetch, token: async () => (calls++, "bad") });
    for (let n = 0; n < 30; n++) {
      const failed = assert.rejects(hub.page("a"), { name: "AccessError" });
      await clock.advance(2000);
      await failed;
    }
    assert.ok(calls <= 20, `${calls} calls`);
    hub.close();
  });

  test("a refresh that fails takes nothing from the token that there is", async () => {
    const { clock, open } = rig();
    const ends = clock.now() + 40_000;
    const bearers = [];
    let calls = 0;
    const fetch = async (_, { headers }) => (bearers.push(headers.authorization), Response.json({ messages: [] }));
    const hub = open({ fetch, token: async () => (calls++ ? Promise.reject(new Error("down")) : jwt(ends)) });
    for (let n = 0; n < 39; n++) {
      await hub.page("a");
      await clock.advance(1000);
    }
    assert.deepEqual(bearers, Array(39).fill(`Bearer ${jwt(ends)}`));
    assert.ok(calls > 2 && calls < 8, `${calls} calls`);
    await clock.advance(2000);
    await assert.rejects(hub.page("a"), { code: "token" });
    hub.close();
  });

  test("and one that fails for a while fails by itself alone, nor is it asked without pause", async () => {
    const { clock, open } = rig();
    let calls = 0;
    const hub = open({ token: () => (++calls > 5 ? "good" : Promise.reject(new Error("down"))), WebSocket: guardedClass(clock).WebSocket });
    const changes = [];
    hub.on("transport", (change) => changes.push(change));
    hub.subscribe("a");
    await clock.advance(1000);
    assert.ok(calls < 5, `${calls} calls within a second`);
    await clock.advance(120_000);
    assert.deepEqual(changes.map(({ to, why }) => [to, why]), [["websocket", "it is the first choice"]]);
    hub.close();
  });

  test("doesn't hide a transport that is slow by itself", async () => {
    const { clock, network, open } = rig();
    network.websocket = "hangs";
    const hub = open({ token: slow(clock) });
    const changes = [];
    hub.on("transport", (change) => changes.push(change));
    hub.subscribe("a");
    await clock.advance(60_000);
    assert.deepEqual(changes.map(({ to }) => to), ["stream"]);
    assert.match(changes[0].why, /websocket/);
    hub.close();
  });

  test("is given up after half a minute, as a token error", async () => {
    const { clock, open } = rig();
    const signals = [];
    const hub = open({ token: ({ signal }) => (signals.push(signal), new Promise(() => {})) });
    const failed = assert.rejects(hub.page("a"), { name: "TailwireError", code: "token" });
    const probed = assert.rejects(hub.probe(), { name: "TailwireError", code: "token" });
    await clock.advance(31_000);
    await Promise.all([failed, probed]);
    assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
    hub.close();
  });
});
