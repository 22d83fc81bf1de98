/** What ends, and when: requests, loops, listeners, timers; what closed hubs and subscriptions leave behind, which is nothing. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, test } from "node:test";
import { attachedOf } from "../.build/attached.js";
import { feedOf } from "../.build/subscription.js";
import { lead } from "../.build/tabs/leader.js";
import { settle } from "./support/clock.mjs";
import { TRANSPORTS, rig, upTo } from "./support/rig.mjs";

const listeners = (signal) => getEventListeners(signal, "abort").length;
/** Whether a promise has settled, without any time passing. */
const settled = async (promise) => {
  let done = false;
  promise.then(() => (done = true), () => (done = true));
  await settle();
  return done;
};

describe("a hub that is closed", () => {
  test("ends pending requests at once, on any transport", async () => {
    for (const transports of [["websocket"], ["poll"]]) {
      const { clock, network, open } = rig();
      const hub = open({ transports });
      hub.subscribe("a");
      await clock.advance(1000);
      network.cut(true);
      network.http = "hangs";
      const pending = [hub.publish("a", 1), hub.page("a")];
      assert.equal(await settled(Promise.any(pending)), false);
      hub.close();
      for (const promise of pending) {
        assert.equal(await settled(promise), true);
        await assert.rejects(promise, { name: "ClosedError" });
      }
    }
  });

  test("also a publish that waits for its next try", async () => {
    const { clock, network, open } = rig();
    network.http = "502";
    const hub = open({ transports: ["poll"], random: () => 1 });
    const publishing = hub.publish("a", 1);
    await clock.advance(500);
    hub.close();
    assert.equal(await settled(publishing), true);
    await assert.rejects(publishing, { name: "ClosedError" });
  });

  test("rejects later requests, and sends nothing", async () => {
    const { network, open } = rig();
    let tokens = 0;
    const hub = open({ token: () => `${tokens++}` });
    hub.close();
    for (const ask of ["publish", "page", "probe"]) await assert.rejects(hub[ask]("a", {}), { name: "ClosedError" });
    assert.deepEqual([network.requests, tokens], [0, 0]);
  });

  test("has no listener left on its signal, nor have its subscriptions", async () => {
    const { signal } = new AbortController();
    const { open } = rig();
    const hub = open({ signal });
    const subscription = hub.subscribe("a", { signal });
    hub.subscribe("b", { signal });
    assert.equal(listeners(signal), 3);
    subscription.close();
    assert.equal(listeners(signal), 2);
    hub.close();
    assert.equal(listeners(signal), 0);
  });
});

describe("a publish", () => {
  for (const transports of [["websocket"], ["poll"]]) {
    test(`over ${transports} ends with its signal and with its time, also while it is sent`, async () => {
      const { clock, network, open } = rig();
      const hub = open({ transports });
      hub.subscribe("a");
      await clock.advance(1000);
      network.cut(true);
      network.http = "hangs";
      const abort = new AbortController();
      const aborted = hub.publish("a", 1, { signal: abort.signal });
      const late = hub.publish("a", 1, { timeout: 700 });
      await clock.advance(600);
      abort.abort(new Error("changed my mind"));
      assert.equal(await settled(aborted), true);
      await assert.rejects(aborted, { message: "changed my mind" });
      assert.equal(listeners(abort.signal), 0);
      assert.equal(await settled(late), false);
      await clock.advance(100);
      assert.equal(await settled(late), true);
      await assert.rejects(late, { name: "NetworkError" });
    });
  }

  test("that was answered leaves no timer", async () => {
    const { clock, open } = rig();
    const running = new Set();
    const watched = {
      now: clock.now,
      date: clock.date,
      setTimeout: (run, ms) => {
        const timer = clock.setTimeout(() => (running.delete(timer), run()), ms);
        running.add(timer);
        return timer;
      },
      clearTimeout: (timer) => (running.delete(timer), clock.clearTimeout(timer)),
    };
    const hub = open({ clock: watched, transports: ["websocket"] });
    hub.subscribe("a");
    await clock.advance(1000);
    const before = running.size;
    const publishing = Promise.all(upTo(30).map((n) => hub.publish("a", { n })));
    await clock.advance(200);
    await publishing;
    assert.equal(running.size, before);
    hub.close();
    await clock.advance(0);
    assert.equal(running.size, 0);
  });
});

test("Node has no warning for many subscriptions and requests at once", async () => {
  const warnings = [];
  const warned = (warning) => warnings.push(warning.message);
  process.on("warning", warned);
  for (const transport of TRANSPORTS) {
    const { clock, open, publish } = rig();
    const hub = open({ transports: [transport] });
    publish(0, 3);
    for (let n = 0; n < 30; n++) hub.subscribe("a", { after: "earliest" });
    const publishing = Promise.all(upTo(30).map((n) => hub.publish("a", { n })));
    await clock.advance(2000);
    await publishing;
    hub.close();
  }
  await settle();
  process.off("warning", warned);
  assert.deepEqual(warnings, []);
});

describe("loops", () => {
  const message = (n) => ({ kind: "message", cursor: `00000001-0000000000${n}`, topic: "a", data: n });
  const fed = (count = 0) => {
    const feed = feedOf(["a"], {}, () => {});
    for (let n = 1; n <= count; n++) feed.line(feed.generation, message(n));
    return feed;
  };

  test("next() that waits ends with return(), and with close()", async () => {
    for (const end of [(iterator) => iterator.return(), (_, feed) => feed.close()]) {
      const feed = fed();
      const iterator = feed[Symbol.asyncIterator]();
      const waiting = [iterator.next(), iterator.next()];
      assert.equal(await settled(Promise.any(waiting)), false);
      end(iterator, feed);
      assert.deepEqual(await Promise.all(waiting), [{ done: true, value: undefined }, { done: true, value: undefined }]);
      assert.ok(feed.closed);
    }
  });

  test("several next() get messages in the order in which they asked", async () => {
    const feed = fed();
    const iterator = feed[Symbol.asyncIterator]();
    const first = iterator.next();
    await settle();
    feed.line(feed.generation, message(1));
    const second = iterator.next();
    feed.line(feed.generation, message(2));
    assert.deepEqual((await Promise.all([first, second])).map(({ value }) => value.data), [1, 2]);
  });

  test("two on one subscription share: each message goes to one, and both end", async () => {
    const feed = fed(2);
    const got = [];
    const loop = async () => {
      for await (const { data } of feed) got.push(data);
    };
    const loops = [loop(), loop()];
    await settle();
    for (const n of [3, 4]) feed.line(feed.generation, message(n));
    await settle();
    assert.deepEqual(got, [1, 2, 3, 4]);
    feed.close();
    assert.equal(await settled(Promise.all(loops)), true);
  });
});

describe("subscriptions that are closed", () => {
  test("are forgotten by the connection to which they were attached", () => {
    const attached = attachedOf();
    const feed = feedOf(["a"], {}, () => {});
    attached.add(feed);
    assert.deepEqual(attached.feeds(), [feed]);
    feed.close();
    assert.deepEqual(attached.feeds(), []);
    // Were it held still, it would be found again by its generation.
    feed.generation--;
    assert.deepEqual(attached.feeds(), []);
  });

  test("are forgotten by the tab that leads", () => {
    const channels = new Map();
    const closes = [];
    const channel = (name) => channels.set(name, { postMessage() {}, close() {} }).get(name);
    const hub = { state: "live", on: () => () => {}, subscribe: () => ({ on() {}, close: () => closes.push("closed") }) };
    const stop = lead({ name: "room", unique: () => "me", open: channel, locks: { request: async () => {} } }, hub);
    channels.get("room").onmessage({ data: { hello: "tab" } });
    const say = (line) => channels.get("tab").onmessage({ data: JSON.stringify(line) });
    say({ kind: "subscribe", id: 1, topic: ["a"] });
    say({ kind: "unsubscribe", id: 2, sub: 1 });
    stop();
    assert.deepEqual(closes, ["closed"]);
  });

  test("no longer have their topics asked for, on any transport", async () => {
    for (const transport of TRANSPORTS.slice(1)) {
      const { clock, broker, network, open } = rig();
      const asked = [];
      const fetch = (url, init) => {
        const { searchParams } = new URL(url);
        if (!searchParams.has("envelope") === (transport !== "stream")) asked.push(searchParams.getAll("topic").sort());
        return network.fetch(url, init);
      };
      const hub = open({ transports: [transport], fetch });
      const got = [];
      hub.subscribe("a").on("message", ({ data }) => got.push(data));
      const other = hub.subscribe("b");
      await clock.advance(2000);
      assert.deepEqual(asked.at(-1), ["a", "b"]);
      other.close();
      // What comes next is the opportunity.
      broker.publish("b", 0);
      await clock.advance(3000);
      assert.deepEqual(asked.at(-1), ["a"]);
      broker.publish("a", 1);
      await clock.advance(3000);
      assert.deepEqual(got, [1]);
      assert.equal(hub.state, "live");
      hub.close();
    }
  });
});
