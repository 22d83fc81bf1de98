/** The fallback alone: events and times in, orders out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Kind, fallbackOf } from "../.build/fallback.js";

const TRANSPORTS = ["websocket", "stream", "long-poll", "poll"];

/** A fallback with a clock, whose orders read as text. */
class Rig {
  now = 0;
  ids = {};
  failures = [];

  constructor(base = 0, random = () => 0.5) {
    const order = (text) => this.orders.push(text);
    const transportOf = (id) => Object.keys(this.ids).find((transport) => this.ids[transport] === id) ?? id;
    this.fallback = fallbackOf(TRANSPORTS, base, random, {
      open: (id, transport) => ((this.ids[transport] = id), order(`open ${transport}`)),
      // That what has ended is closed goes without saying.
      close: (id) => id !== this.ending && order(`close ${transportOf(id)}`),
      activate: (id, transport, why) => order(`activate ${transport}: ${why}`),
      failed: (transport, why) => this.failures.push(why),
      audit: (id) => order(`audit ${transportOf(id)}`),
    });
  }

  send(event) {
    this.orders = [];
    this.ending = event.kind === "ended" ? event.id : undefined;
    const kind = Kind[event.kind[0].toUpperCase() + event.kind.slice(1)];
    this.fallback.handle({ ...event, kind }, this.now, 0);
    return this.orders;
  }

  of(transport, kind, more) {
    return this.send({ kind, id: this.ids[transport], ...more });
  }

  /** Lets time pass, tick by tick as the fallback asks, until it says something. */
  pass(ms) {
    const until = this.now + ms;
    for (let ticks = 0; this.fallback.next_at <= until; ticks++) {
      assert.ok(ticks < 100, "the fallback ticks without end");
      this.now = Math.max(this.now, this.fallback.next_at);
      const orders = this.send({ kind: "tick" });
      if (orders.length) return orders;
    }
    this.now = until;
    return [];
  }

  up(transport) {
    return this.of(transport, "alive", { message: false, up: true });
  }

  live(transport) {
    this.of(transport, "opened");
    return this.up(transport);
  }
}

test("starts at the top, and keeps the one that delivers", () => {
  const rig = new Rig();
  assert.equal(rig.fallback.next_at, Infinity);
  assert.deepEqual(rig.send({ kind: "start" }), ["open websocket"]);
  assert.equal(rig.fallback.state, "connecting");
  assert.deepEqual(rig.live("websocket"), ["activate websocket: it is the first choice"]);
  assert.equal(rig.fallback.state, "live");
});

test("races: a slow handshake gets the stream beside it, and may still win", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  assert.deepEqual(rig.pass(5000), ["open stream"]);
  assert.equal(rig.now, 1000);
  assert.deepEqual(rig.live("stream"), ["activate stream: websocket took more than 1 s to open"]);
  assert.equal(rig.fallback.state, "degraded");
  assert.deepEqual(rig.live("websocket"), ["activate websocket: it answers again", "close stream"]);
});

test("a WebSocket that opens and stays silent is left after three seconds", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.of("websocket", "opened");
  assert.deepEqual(rig.pass(5000), ["close websocket", "open stream"]);
  assert.equal(rig.now, 3000);
  assert.match(rig.live("stream")[0], /none came within 3 s/);
});

test("an active attempt that falls silent is opened again", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.live("websocket");
  rig.now += 15_000;
  rig.of("websocket", "alive", { message: false, up: true });
  assert.deepEqual(rig.pass(39_000), []);
  assert.deepEqual(rig.pass(2000), ["close websocket"]);
  assert.equal(rig.fallback.state, "connecting");
  assert.deepEqual(rig.pass(1000), ["open websocket"]);
});

test("three cuts within ten minutes, and the transport is left", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  for (let cut = 1; cut <= 3; cut++) {
    rig.live("websocket");
    rig.now += 150_000;
    rig.of("websocket", "alive", { message: false, up: true });
    rig.of("websocket", "ended", { why: "1006" });
    assert.deepEqual(rig.pass(2000), [cut < 3 ? "open websocket" : "open stream"]);
  }
  assert.deepEqual(rig.live("stream"), ["activate stream: websocket was lost 3 times in 10 minutes: 1006"]);
});

test("a network that cuts every second and a half is left transport by transport within seconds", () => {
  const rig = new Rig(0, () => 1);
  rig.send({ kind: "start" });
  for (const [transport, next] of [["websocket", "stream"], ["stream", "long-poll"]]) {
    for (let cut = 1; cut <= 3; cut++) {
      rig.live(transport);
      rig.now += 1500;
      rig.of(transport, "ended", { why: "cut" });
      assert.deepEqual(rig.pass(4000), [`open ${cut < 3 ? transport : next}`]);
    }
  }
  assert.ok(rig.now <= 2 * (3 * 1500 + 1000 + 2000 + 4000), `${rig.now} ms`);
});

test("climbs after 30 s, then ever more rarely, and falls back at once where the climb doesn't hold", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.of("websocket", "ended", { why: "refused" });
  rig.live("stream");
  const waits = [];
  for (let climb = 0; climb < 7; climb++) {
    const since = rig.now;
    assert.deepEqual(beating(rig, 2_000_000), ["open websocket"]);
    waits.push((rig.now - since) / 1000);
    rig.of("websocket", "ended", { why: "refused" });
  }
  assert.deepEqual(waits, [30, 60, 120, 240, 480, 900, 900].map((seconds) => seconds * 1.125));
  beating(rig, 2_000_000);
  assert.deepEqual(rig.live("websocket"), ["activate websocket: it answers again", "close stream"]);
  rig.now += 5000;
  // The lower transport opens in the same breath.
  assert.deepEqual(rig.of("websocket", "ended", { why: "cut" }), ["open stream"]);
  assert.equal(rig.fallback.state, "connecting");
});

/** Lets time pass with a sign of life of the stream now and then. */
function beating(rig, ms) {
  for (const until = rig.now + ms; rig.now < until; ) {
    const orders = rig.pass(15_000);
    if (orders.length) return orders;
    rig.of("stream", "alive", { message: false, up: true });
  }
  return [];
}

test("a climb that fails on one transport tries the next one below it", () => {
  const rig = new Rig(3);
  assert.deepEqual(rig.send({ kind: "start" }), ["open poll"]);
  assert.deepEqual(rig.live("poll"), ["activate poll: it worked last time"]);
  assert.deepEqual(rig.pass(60_000), ["open websocket"]);
  assert.deepEqual(rig.of("websocket", "ended", { why: "refused" }), ["open stream"]);
  assert.deepEqual(rig.pass(60_000), ["close stream", "open long-poll"]);
  assert.deepEqual(rig.live("long-poll"), ["activate long-poll: it answers again", "close poll"]);
});

test("the `retry:` of a stream is the least wait, but not on the way back from a climb", () => {
  const rig = new Rig(1);
  rig.send({ kind: "start" });
  rig.live("stream");
  rig.of("stream", "ended", { why: "cut", retry_ms: 4000 });
  assert.deepEqual(rig.pass(3999), []);
  assert.deepEqual(rig.pass(1), ["open stream"]);
  const climber = new Rig(3);
  climber.send({ kind: "start" });
  climber.live("poll");
  climber.pass(60_000);
  climber.of("websocket", "ended", { why: "refused" });
  climber.live("stream");
  assert.deepEqual(climber.of("stream", "ended", { why: "cut", retry_ms: 4000 }).at(-1), "open poll");
});

test("without a token no transport is blamed, and it is asked again", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  for (let n = 0; n < 3; n++) {
    assert.deepEqual(rig.of("websocket", "ended", { why: "no token", retry_after: 0 }), []);
    assert.deepEqual(rig.pass(499), []);
    assert.deepEqual(rig.pass(1), ["open websocket"]);
  }
  assert.deepEqual(rig.failures, []);
  assert.deepEqual(rig.live("websocket"), ["activate websocket: it is the first choice"]);
});

test("bye and Retry-After: the same transport at the time that was given", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.live("websocket");
  rig.of("websocket", "ended", { why: "bye", retry_after: 4000 });
  assert.deepEqual(rig.pass(3999), []);
  assert.deepEqual(rig.pass(1001), ["open websocket"]);
  rig.of("websocket", "ended", { why: "503", retry_after: 8000 });
  const since = rig.now;
  assert.deepEqual(rig.pass(20_000), ["open websocket"]);
  assert.ok(rig.now - since >= 8000 && rig.now - since <= 10_000);
});

test("clients with the same Retry-After come back spread over time", () => {
  const waits = [0, 0.5, 1].map((chance) => {
    const rig = new Rig(0, () => chance);
    rig.send({ kind: "start" });
    rig.live("websocket");
    rig.of("websocket", "ended", { why: "503", retry_after: 4000 });
    for (let waited = 0; ; waited += 100) if (rig.pass(100).length) return waited + 100;
  });
  assert.deepEqual(waits, [4000, 4500, 5000]);
});

/** How long after a loss the next searches begin, and with which transport, while nothing works. */
function outage(rig, ms) {
  const began = rig.now;
  const searches = [];
  while (rig.now - began < ms) {
    const [orders] = rig.pass(60_000);
    searches.push([rig.now - began, orders]);
    for (const transport of TRANSPORTS) if (rig.ids[transport]) rig.of(transport, "ended", { why: "refused" });
  }
  return searches;
}

test("in an outage no wait is longer than a thirtieth of it, or than a second: a minute's is over within two", () => {
  const rig = new Rig(0, () => 1);
  rig.send({ kind: "start" });
  rig.live("websocket");
  rig.now += 60_000;
  rig.of("websocket", "ended", { why: "1006" });
  const times = outage(rig, 3_600_000).map(([at]) => at);
  const waits = times.map((at, n) => [at, at - (times[n - 1] ?? 0)]);
  for (const [at, wait] of waits) {
    assert.ok(wait <= 30_000);
    if (at <= 30_000) assert.ok(wait <= 1000, `${wait} ms at ${at}`);
    else if (at <= 60_000) assert.ok(wait <= 2000, `${wait} ms at ${at}`);
  }
  assert.deepEqual(waits.at(-1)[1], 30_000);
});

test("in an outage most searches are one request, by the transport that was active last; some go down the whole list", () => {
  const rig = new Rig(2);
  rig.send({ kind: "start" });
  rig.live("long-poll");
  rig.now += 60_000;
  rig.of("long-poll", "ended", { why: "cut" });
  const opened = outage(rig, 4000).slice(0, 8).map(([, orders]) => orders);
  assert.deepEqual(opened, ["long-poll", "long-poll", "long-poll", "long-poll", "websocket", "long-poll", "long-poll", "long-poll"].map((name) => `open ${name}`));
});

test("after an outage a lower transport is left soon, as the better one may have failed for its turn alone", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.live("websocket");
  rig.now += 60_000;
  rig.of("websocket", "ended", { why: "1006" });
  rig.pass(1000);
  assert.deepEqual(rig.of("websocket", "ended", { why: "refused" }), ["open stream"]);
  rig.live("stream");
  assert.deepEqual(rig.pass(1250), ["open websocket"]);
  // If it fails again, the usual times hold.
  rig.of("websocket", "ended", { why: "refused" });
  assert.deepEqual(rig.pass(29_000), []);
});

test("outages count against no transport: a broker that is restarted three times in ten minutes is found by WebSocket again", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  for (let restart = 0; restart < 5; restart++) {
    assert.equal(rig.live("websocket").length, restart ? 1 : 1);
    rig.now += 30_000;
    rig.of("websocket", "ended", { why: "1006" });
    rig.pass(1000);
    for (const transport of TRANSPORTS) rig.of(transport, "ended", { why: "refused" });
    assert.deepEqual(rig.pass(1000), ["open websocket"]);
  }
});

test("an answered request ends a wait between tries, but not the one that the other side asked for, and searches keep their pause", () => {
  const rig = new Rig(0, () => 1);
  rig.send({ kind: "start" });
  rig.live("websocket");
  rig.now += 600_000;
  rig.of("websocket", "alive", { message: false, up: true });
  rig.of("websocket", "ended", { why: "1006" });
  assert.deepEqual(rig.send({ kind: "answered" }), ["open websocket"]);
  for (const transport of TRANSPORTS) rig.of(transport, "ended", { why: "refused" });
  rig.now += 100;
  assert.deepEqual(rig.send({ kind: "answered" }), []);
  assert.deepEqual(rig.pass(899), []);
  assert.deepEqual(rig.pass(1), ["open websocket"]);
  rig.live("websocket");
  rig.of("websocket", "ended", { why: "bye", retry_after: 4000 });
  rig.now += 3000;
  assert.deepEqual(rig.send({ kind: "answered" }), []);
  assert.deepEqual(rig.pass(2000), ["open websocket"]);
});

test("a failure is reported once for each reason, and again after the transport has worked", () => {
  const rig = new Rig(0, () => 1);
  rig.send({ kind: "start" });
  const round = (why) => {
    for (const transport of TRANSPORTS) rig.of(transport, "ended", { why });
    rig.pass(2000);
  };
  round("refused");
  round("refused");
  assert.deepEqual(rig.failures, TRANSPORTS.map((name) => `${name}: refused`));
  round("502");
  assert.equal(rig.failures.length, 8);
  rig.live("websocket");
  rig.of("websocket", "ended", { why: "1006" });
  assert.deepEqual(rig.failures.slice(8), ["websocket was lost: 1006"]);
});

test("a change of network opens the best beside what there is", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.of("websocket", "ended", { why: "refused" });
  rig.live("stream");
  assert.deepEqual(rig.send({ kind: "network" }), ["open websocket"]);
  assert.deepEqual(rig.live("websocket"), ["activate websocket: it answers again", "close stream"]);
});

test("offline: nothing is tried until the network is back, or a line comes all the same", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.live("websocket");
  rig.send({ kind: "offline" });
  assert.equal(rig.fallback.state, "offline");
  rig.of("websocket", "alive", { message: false, up: true });
  assert.equal(rig.fallback.state, "live");
  rig.send({ kind: "offline" });
  rig.of("websocket", "ended", { why: "gone" });
  assert.deepEqual(rig.pass(600_000), []);
  assert.equal(rig.fallback.state, "offline");
  assert.deepEqual(rig.send({ kind: "network" }), ["open websocket"]);
});

test("lines that stop are audited, ever more rarely while no lines are missing", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.live("websocket");
  for (const after of [3000, 6000, 12_000, 24_000]) {
    rig.of("websocket", "alive", { message: true, up: true });
    const since = rig.now;
    assert.deepEqual(rig.pass(30_000), ["audit websocket"]);
    assert.equal(rig.now - since, after);
    rig.of("websocket", "audited");
    assert.ok(rig.fallback.next_at > rig.now + 10_000);
  }
  rig.of("websocket", "alive", { message: true, up: true });
  assert.deepEqual(rig.pass(39_000), []);
});

test("an audit without an answer is no audit: it is asked again, on any transport but the last", () => {
  for (const [base, transport] of TRANSPORTS.slice(0, 3).entries()) {
    const rig = new Rig(base);
    rig.send({ kind: "start" });
    rig.live(transport);
    rig.of(transport, "alive", { message: true, up: true });
    const since = rig.now;
    for (const after of [3000, 6000, 12_000, 24_000]) {
      assert.deepEqual(rig.pass(30_000 - rig.now).filter((orders) => !orders.startsWith("open ")), [`audit ${transport}`]);
      assert.equal(rig.now - since, after);
    }
  }
  const rig = new Rig(3);
  rig.send({ kind: "start" });
  rig.live("poll");
  rig.of("poll", "alive", { message: true, up: true });
  assert.deepEqual(rig.pass(20_000), []);
});

test("a line that comes while a page is asked keeps the next silence from counting as audited", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.live("websocket");
  rig.of("websocket", "alive", { message: true, up: true });
  assert.deepEqual(rig.pass(3000), ["audit websocket"]);
  rig.of("websocket", "alive", { message: true, up: true });
  rig.of("websocket", "audited");
  assert.deepEqual(rig.pass(6000), ["audit websocket"]);
});

test("a renewal goes on over the same transport, and goes down where that fails", () => {
  const rig = new Rig(1);
  rig.send({ kind: "start" });
  rig.live("stream");
  const first = rig.ids.stream;
  assert.deepEqual(rig.send({ kind: "renew" }), ["open stream"]);
  assert.ok(rig.up("stream").includes(`close ${first}`));
  rig.send({ kind: "renew" });
  rig.of("stream", "ended", { why: "502" });
  assert.equal(rig.live("long-poll")[0], "activate long-poll: stream: 502");
});

test("stop closes everything and asks for no more time", () => {
  const rig = new Rig();
  rig.send({ kind: "start" });
  rig.pass(1000);
  assert.deepEqual(rig.send({ kind: "stop" }).sort(), ["close stream", "close websocket"]);
  assert.equal(rig.fallback.next_at, Infinity);
  assert.deepEqual(rig.send({ kind: "start" }), ["open websocket"]);
});

test("the reason of a change is that of the transport that was left, never of the next one", () => {
  // The one that is slow wins its race: at first, and where it was remembered.
  for (const [base, transport, why] of [[0, "websocket", "it is the first choice"], [1, "stream", "it worked last time"]]) {
    const rig = new Rig(base);
    rig.send({ kind: "start" });
    assert.deepEqual(rig.pass(1000), [`open ${TRANSPORTS[base + 1]}`]);
    assert.equal(rig.live(transport)[0], `activate ${transport}: ${why}`);
  }
  // The transport between fails too.
  const rig = new Rig();
  rig.send({ kind: "start" });
  for (let cut = 1; cut <= 3; cut++) {
    rig.live("websocket");
    rig.of("websocket", "ended", { why: "1006" });
    rig.pass(10_000);
  }
  assert.deepEqual(rig.of("stream", "ended", { why: "refused" }), ["open long-poll"]);
  assert.equal(rig.live("long-poll")[0], "activate long-poll: websocket was lost 3 times in 10 minutes: 1006");
});
