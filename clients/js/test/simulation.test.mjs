/**
 * The whole client on virtual time, against a simulated broker over a simulated network, under seeded schedules of
 * faults. Per subscription: every message once and in order, or a gap that covers it. A failure prints its seed; run
 * it alone with SEED=n. The number of schedules is $SCHEDULES, from $SEED on.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../.build/index.js";
import { matches } from "../.build/topics.js";
import { VirtualClock, randomOf } from "./support/clock.mjs";
import { SimulatedBroker } from "./support/simulated-broker.mjs";
import { SimulatedNetwork } from "./support/simulated-network.mjs";

const TOPICS = ["a/x", "a/y", "b/x", "c"];
const FILTERS = ["a/x", "a/*", "**", ["a/x", "c"], "*/x", "c", ["b/x"]];
const WEBSOCKET = ["fine", "fine", "refused", "hangs", "swallows", "deaf", "cut 2", "cut 5", "cut 90"];
const HTTP = ["fine", "fine", "fine", "buffers 4096", "buffers 65536", "buffers all", "cut 5", "502", "refused", "hangs"];
const RUN_MS = 240_000;
const HEAL_MS = 40 * 60_000;

const first = Number(process.env.SEED ?? 1);
const schedules = Number(process.env.SCHEDULES ?? (process.env.SEED ? 1 : 800));

test(`${schedules} schedules of faults`, { timeout: 1_800_000 }, async () => {
  for (let seed = first; seed < first + schedules; seed++) {
    const run = new Run(seed);
    try {
      await run.all();
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}\n${run.story.slice(-60).join("\n")}`;
      throw error;
    }
  }
});

class Run {
  story = [];
  subscriptions = [];
  published = [];
  everything = [];

  constructor(seed) {
    this.clock = new VirtualClock();
    this.random = randomOf(seed);
    this.broker = new SimulatedBroker(this.clock);
    this.network = new SimulatedNetwork(this.clock, this.random, this.broker);
    this.trims = this.chance(0.3);
    this.wipes = this.chance(0.1);
    let listener = () => {};
    this.system = (event) => listener(event);
    this.hub = connect("https://broker.example/", {
      fetch: this.network.fetch,
      WebSocket: this.chance(0.9) ? this.network.WebSocket : undefined,
      clock: this.clock,
      storage: undefined,
      random: this.random,
      unique: () => `key-${this.random()}`,
      network: { id: () => "", listen: (tell) => ((listener = tell), () => {}) },
    });
    this.hub.on("transport", ({ from, to, why }) => this.tell(`transport ${from} -> ${to}: ${why}`));
    this.hub.on("state", (state) => this.tell(`state ${state}`));
    const publish = this.broker.publish.bind(this.broker);
    this.broker.publish = (...args) => {
      const before = this.broker.log.length;
      const receipt = publish(...args);
      if (this.broker.log.length > before) this.everything.push(this.broker.log.at(-1));
      return receipt;
    };
  }

  chance(share) {
    return this.random() < share;
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  tell(text) {
    this.story.push(`${((this.clock.now() - 1e9) / 1000).toFixed(3)} ${text}`);
  }

  async all() {
    this.subscribe();
    if (this.chance(0.5)) this.subscribe();
    const until = this.clock.now() + RUN_MS;
    while (this.clock.now() < until) {
      await this.clock.advance(this.pick([1, 20, 200, 1000, 4000, 15_000]));
      this.act();
    }
    await this.heal();
    this.judge();
    this.hub.close();
    await this.clock.advance(60_000);
    assert.equal(this.hub.state, "closed");
  }

  act() {
    const { network, broker } = this;
    const roll = this.random();
    if (roll < 0.55) for (let n = this.pick([1, 3, 40]); n > 0; n--) broker.publish(this.pick(TOPICS), { n });
    else if (roll < 0.6) this.publish();
    else if (roll < 0.68) this.tell(`websocket ${(network.websocket = this.pick(WEBSOCKET))}`);
    else if (roll < 0.76) this.tell(`http ${(network.http = this.pick(HTTP))}`);
    else if (roll < 0.79) this.tell(`latency ${(network.latency = this.pick([1, 20, 100, 700]))}`);
    else if (roll < 0.82) this.cut(this.chance(0.3));
    else if (roll < 0.84) this.restart();
    else if (roll < 0.88) this.subscribe();
    else if (roll < 0.91) this.unsubscribe();
    else if (roll < 0.93) this.blink();
    else if (roll < 0.95 && this.trims) this.trim();
    else if (roll < 0.96 && this.wipes) this.wipe();
  }

  cut(silently) {
    this.tell(silently ? "all connections are half open" : "all connections are cut");
    this.network.cut(silently);
  }

  restart() {
    const drains = this.chance(0.5);
    this.tell(drains ? "the broker drains and restarts" : "the broker is killed and restarts");
    if (drains) this.network.drain();
    this.broker.down = true;
    this.network.later(100, () => this.network.cut(false));
    this.network.later(this.pick([200, 3000, 20_000]), () => {
      this.broker.down = false;
      this.broker.restart();
    });
  }

  wipe() {
    if (this.broker.down) return;
    this.tell("the log is replaced");
    this.network.cut(false);
    this.wiped = true;
    this.broker.wipe(this.chance(0.3));
  }

  trim() {
    const topic = this.pick(TOPICS);
    this.tell(`retention takes of ${topic}`);
    this.broker.trim(topic, this.pick([0, 2, 10]));
  }

  blink() {
    this.tell("offline for a while");
    this.system("offline");
    this.network.later(this.pick([100, 8000]), () => this.system("network"));
  }

  publish() {
    const entry = { data: { key: this.random() } };
    this.published.push(entry);
    this.hub.publish("a/x", entry.data).then(
      (receipt) => (entry.receipt = receipt),
      (error) => (entry.error = error),
    );
  }

  subscribe() {
    if (this.subscriptions.length > 6) return;
    const topics = this.pick(FILTERS);
    const options = this.pick([{}, { after: "earliest" }, { after: "earliest" }, { last: 5 }, { after: this.broker.cursor() }]);
    const buffer = this.pick([1000, 1000, 7]);
    const terms = [topics].flat();
    const record = { terms, options, got: [], gaps: [], since: options.after === "earliest" || this.everything.length === 0 ? "" : this.broker.cursor(), started_at: Infinity };
    const name = `subscription ${this.subscriptions.length} (${terms}, ${JSON.stringify(options)}, buffer ${buffer})`;
    this.tell(name);
    const subscription = this.hub.subscribe(topics, { ...options, buffer });
    record.subscription = subscription;
    subscription.on("gap", (gap) => (this.tell(`${name}: gap ${JSON.stringify(gap)}`), record.gaps.push(gap), record.got.push({ gap })));
    subscription.on("error", (error) => (record.error = error));
    const started = () => (record.started_at = Math.min(record.started_at, this.clock.now()));
    subscription.on("caught_up", started);
    subscription.on("message", started);
    if (this.chance(0.5)) subscription.on("message", (message) => record.got.push(message));
    else void this.read(record);
    this.subscriptions.push(record);
  }

  /** A reader that takes its time now and then. */
  async read(record) {
    for await (const message of record.subscription) {
      record.got.push(message);
      if (this.chance(0.05)) await new Promise((resolve) => this.clock.setTimeout(resolve, this.pick([10, 1000, 20_000])));
    }
  }

  unsubscribe() {
    const record = this.pick(this.subscriptions.slice(1));
    if (!record) return;
    record.subscription.close();
    this.subscriptions.splice(this.subscriptions.indexOf(record), 1);
    this.judgeOne(record, false);
  }

  async heal() {
    await this.clock.advance(25_000);
    this.tell("all is well again");
    Object.assign(this.network, { websocket: "fine", http: "fine", latency: 20 });
    this.network.cut(false);
    await this.clock.advance(120_000);
    for (let n = 0; n < 20; n++) this.broker.publish(this.pick(TOPICS), { n });
    // A slow reader may have a few naps before it.
    await this.clock.advance(HEAL_MS);
    const before = this.network.requests;
    await this.clock.advance(600_000);
    assert.ok(this.network.requests - before < 60, `${this.network.requests - before} requests in ten quiet minutes`);
  }

  judge() {
    assert.equal(this.hub.state, "live");
    for (const record of this.subscriptions) this.judgeOne(record, true);
    for (const { data, receipt, error } of this.published) {
      assert.ok(receipt || error, "a publish never came to an end");
      if (this.wiped) continue;
      const stored = this.everything.filter(({ cursor }) => cursor === receipt?.cursor).length;
      if (receipt) assert.equal(stored, 1, `published ${JSON.stringify(data)}`);
    }
  }

  judgeOne({ terms, options, got, gaps, error, since, started_at }, complete) {
    const name = `subscription to ${terms} with ${JSON.stringify(options)}`;
    assert.equal(error, undefined, name);
    let last = "";
    for (const { gap, cursor } of got) {
      // Only a gap of another log may lead back.
      if (gap) {
        if (gap.reason === "epoch") last = gap.from;
        continue;
      }
      assert.ok(cursor > last, `${name} got ${cursor} after ${last}`);
      last = cursor;
    }
    const cursors = new Set(got.filter(({ gap }) => !gap).map(({ cursor }) => cursor));
    for (const { from, to, reason } of gaps) {
      if (reason === "epoch") assert.ok(this.wiped);
      else assert.ok(this.trims && to > from, `${name} got a gap from ${from} to ${to}`);
    }
    if (this.wiped) return;
    const begin = options.after ? since : ([...cursors].sort()[0] ?? "~");
    // What was gone before the start was known isn't missed by those who named no cursor.
    const named = options.after > "" && options.after !== "earliest";
    const due = this.everything.filter(({ topic, cursor, trimmed_at }) => (named || trimmed_at > started_at) && cursor >= begin && cursor > since && terms.some((term) => matches(term, topic)));
    const end = complete ? "~" : [...cursors].sort().at(-1) ?? "";
    for (const { cursor } of due) {
      if (cursor > end || cursors.has(cursor)) continue;
      assert.ok(gaps.some(({ from, to }) => from < cursor && cursor <= to), `${name} missed ${cursor} in silence`);
    }
  }
}
