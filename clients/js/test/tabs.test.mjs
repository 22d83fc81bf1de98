/** Tabs that share a connection, on virtual time, under seeded schedules: tabs come, go, die and hang, the broker comes and goes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../.build/index.js";
import { tabs } from "../.build/tabs.js";
import { VirtualClock, randomOf } from "./support/clock.mjs";
import { SimulatedBroker } from "./support/simulated-broker.mjs";
import { SimulatedNetwork } from "./support/simulated-network.mjs";
import { SimulatedBrowser } from "./support/simulated-tabs.mjs";

/** A browser with a broker behind a network. */
class World {
  constructor(seed = 1) {
    this.clock = new VirtualClock();
    this.random = randomOf(seed);
    this.broker = new SimulatedBroker(this.clock);
    this.network = new SimulatedNetwork(this.clock, this.random, this.broker);
    this.browser = new SimulatedBrowser(this.clock, this.random);
    this.tabs = [];
  }

  /** Opens a tab, with its hub. What it says, and does not close, ends with its lifetime. */
  open(options = {}, group) {
    const tab = this.browser.tab();
    const { clock, network, random } = this;
    const dead = () => !tab.alive || tab.frozen;
    // A tab that is dead or frozen runs no timers. One that thaws begins with what was due.
    const own = { ...clock, now: clock.now, date: clock.date, setTimeout: (run, ms) => clock.setTimeout(() => (dead() ? tab.thawed?.push(run) : run()), ms), clearTimeout: clock.clearTimeout };
    tab.sockets = 0;
    const Socket = class extends network.WebSocket {
      constructor(...args) {
        const socket = super(...args);
        socket.tab = tab;
        tab.sockets++;
        tab.connections.add(socket);
        return socket;
      }
    };
    tab.connections = new Set();
    tab.hub = connect("https://broker.example/", {
      clock: own,
      random,
      unique: () => `u-${this.random()}`,
      fetch: (url, init) => {
        if (!tab.alive) return new Promise(() => {});
        return network.fetch(url, { ...init, tab });
      },
      WebSocket: Socket,
      storage: undefined,
      network: { id: () => "", listen: () => () => {} },
      tabs: tabs({ ...tab.options, group }),
      ...options,
    });
    tab.changes = [];
    tab.hub.on("transport", (change) => tab.changes.push(change));
    this.tabs.push(tab);
    return tab;
  }

  kill(tab) {
    this.browser.kill(tab);
    // The system closes what it had open.
    for (const connection of tab.connections) connection.close();
    this.tabs.splice(this.tabs.indexOf(tab), 1);
  }

  follow(tab, topics, options) {
    const record = { tab, got: [], gaps: [], errors: [] };
    record.subscription = tab.hub.subscribe(topics, options);
    record.subscription.on("message", ({ data }) => tab.alive && record.got.push(data.n));
    record.subscription.on("gap", (gap) => record.gaps.push(gap));
    record.subscription.on("error", (error) => record.errors.push(error));
    return record;
  }

  get sockets() {
    return this.tabs.reduce((sum, tab) => sum + tab.sockets, 0);
  }
}

const upTo = (count, from = 0) => Array.from({ length: count - from }, (_, n) => n + from);

test("one connection for all, and another leader when the first is gone", async () => {
  const world = new World();
  const { clock, broker } = world;
  const all = [1, 2, 3].map(() => world.open());
  const follows = all.map((tab) => world.follow(tab, "a", { after: "earliest" }));
  await clock.advance(2000);
  for (const n of upTo(10)) broker.publish("a", { n });
  await clock.advance(1000);
  for (const { got } of follows) assert.deepEqual(got, upTo(10));
  assert.deepEqual(all.map(({ sockets }) => sockets), [1, 0, 0]);
  for (const { hub, changes } of all) {
    assert.equal(hub.state, "live");
    assert.deepEqual(changes, [{ from: undefined, to: "websocket", why: "it is the first choice" }]);
  }
  world.kill(all[0]);
  for (const n of upTo(20, 10)) broker.publish("a", { n });
  await clock.advance(2000);
  for (const n of upTo(30, 20)) broker.publish("a", { n });
  await clock.advance(1000);
  for (const { got } of follows.slice(1)) assert.deepEqual(got, upTo(30));
  assert.deepEqual(all.slice(1).map(({ sockets }) => sockets), [1, 0]);
  // In good order it is no different.
  all[1].hub.close();
  assert.equal(all[1].hub.state, "closed");
  for (const n of upTo(40, 30)) broker.publish("a", { n });
  await clock.advance(2000);
  assert.deepEqual(follows[2].got, upTo(40));
  assert.equal(all[2].sockets, 1);
});

test("a follower's messages, publishes, pages and errors", async () => {
  const world = new World();
  const { clock, broker } = world;
  const [leader, tab] = [world.open(), world.open()];
  const own = world.follow(leader, "a/*", { last: 2 });
  await clock.advance(2000);
  for (const n of upTo(5)) broker.publish("a/x", { n });
  await clock.advance(2000);
  const late = world.follow(tab, "a/*", { last: 2 });
  const latest = world.follow(tab, "a/x");
  await clock.advance(2000);
  assert.deepEqual([own.got, late.got, latest.got], [upTo(5), [3, 4], []]);
  const receipt = tab.hub.publish("a/x", { n: 5 }, { key: "k" });
  await clock.advance(500);
  const again = leader.hub.publish("a/x", { n: 5 }, { key: "k" });
  await clock.advance(500);
  assert.deepEqual(await receipt, await again);
  assert.deepEqual([late.got, latest.got], [[3, 4, 5], [5]]);
  const page = tab.hub.page("a/x", { limit: 2 });
  await clock.advance(500);
  assert.equal((await page).messages.length, 2);
  assert.equal(tab.sockets, 0);
  // A subscription that is closed costs the leader nothing more, nor does one whose tab is gone.
  const subscribed = () => [...leader.connections].find(({ gone }) => !gone).session.readers.size;
  assert.equal(subscribed(), 3);
  late.subscription.close();
  await clock.advance(1000);
  assert.equal(subscribed(), 2);
  world.kill(tab);
  await clock.advance(1000);
  assert.equal(subscribed(), 1);
  broker.publish("a/x", { n: 6 });
  await clock.advance(1000);
  assert.deepEqual([late.got, own.got.at(-1)], [[3, 4, 5], 6]);
});

test("the cursor of a follower that gets no messages moves with the leader's", async () => {
  const world = new World();
  const { clock, broker } = world;
  const [leader, tab] = [world.open(), world.open()];
  world.follow(leader, "a");
  const { subscription } = world.follow(tab, "quiet");
  await clock.advance(2000);
  broker.publish("a", { n: 0 });
  await clock.advance(40_000);
  assert.equal(subscription.cursor, broker.cursor());
});

test("a tab that missed messages gets a gap, once", async () => {
  const world = new World();
  const { clock, broker } = world;
  const { cursor } = broker.publish("a", { n: 0 });
  for (const n of [1, 2, 3]) broker.publish("a", { n });
  broker.trim("a", 1);
  const [leader, tab] = [world.open(), world.open()];
  const fresh = world.follow(leader, "a", { after: "earliest" });
  const old = world.follow(tab, "a", { after: cursor });
  await clock.advance(3000);
  world.kill(leader);
  broker.publish("a", { n: 4 });
  await clock.advance(3000);
  assert.deepEqual([fresh.got, fresh.gaps], [[3], []]);
  assert.deepEqual(old.got, [3, 4]);
  assert.deepEqual(old.gaps.map(({ from, reason }) => [from, reason]), [[cursor, "retention"]]);
});

test("a refused subscription, and one too many for a connection, fails in the tab that asked", async () => {
  const world = new World();
  const { clock } = world;
  const [leader, tab] = [world.open(), world.open()];
  const many = world.follow(leader, upTo(60).map((n) => `t/${n}`));
  await clock.advance(2000);
  const more = world.follow(tab, upTo(60).map((n) => `u/${n}`));
  await clock.advance(2000);
  assert.deepEqual(many.errors, []);
  assert.equal(more.errors[0].code, "filter-too-large");
  assert.ok(more.subscription.closed);
});

test("followers leave a leader that hangs, and come back to it", async () => {
  const world = new World();
  const { clock, broker, browser } = world;
  const [leader, tab] = [world.open(), world.open()];
  world.follow(leader, "a");
  const { got } = world.follow(tab, "a", { after: "earliest" });
  await clock.advance(2000);
  browser.freeze(leader);
  await clock.advance(90_000);
  for (const n of upTo(5)) broker.publish("a", { n });
  await clock.advance(20_000);
  assert.deepEqual(got, upTo(5));
  assert.equal(tab.changes.at(-1).to, "stream");
  assert.equal(tab.hub.state, "degraded");
  browser.thaw(leader);
  await clock.advance(300_000);
  for (const n of upTo(9, 5)) broker.publish("a", { n });
  await clock.advance(1000);
  assert.deepEqual(got, upTo(9));
  assert.equal(tab.changes.at(-1).to, "websocket");
  assert.equal(tab.hub.state, "live");
  assert.equal(tab.sockets, 0);
});

test("groups share no connection; browsers without Web Locks have one for each tab", async () => {
  const world = new World();
  const all = [world.open({}, "ann"), world.open({}, "bob"), world.open({ tabs: tabs({ locks: undefined, BroadcastChannel: undefined }) })];
  for (const tab of all) world.follow(tab, "a");
  await world.clock.advance(2000);
  const inNode = !globalThis.navigator?.locks;
  assert.deepEqual(all.map(({ sockets }) => sockets), [1, 1, inNode ? 1 : 0]);
});

test("a hub whose signal was aborted before takes part in nothing", async () => {
  const world = new World();
  const closed = world.open({ signal: AbortSignal.abort() });
  assert.equal(closed.hub.state, "closed");
  const tab = world.open();
  world.follow(tab, "a");
  await world.clock.advance(2000);
  assert.equal(tab.sockets, 1);
});

const first = Number(process.env.SEED ?? 1);
const schedules = Number(process.env.SCHEDULES ?? (process.env.SEED ? 1 : 300));

test(`${schedules} schedules of tabs that come and go`, { timeout: 1_800_000 }, async () => {
  for (let seed = first; seed < first + schedules; seed++) {
    try {
      await schedule(new World(seed));
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
});

async function schedule(world) {
  const { clock, broker, browser, network, random } = world;
  const chance = (share) => random() < share;
  const pick = (list) => list[Math.floor(random() * list.length)];
  const records = [];
  let sent = 0;
  const open = () => {
    const tab = world.open();
    for (let n = pick([1, 2]); n > 0; n--) {
      const start = pick([{ after: "earliest" }, { last: 3 }, {}]);
      records.push({ ...world.follow(tab, pick(["a", "**", ["a", "b"]]), { ...start, buffer: pick([1000, 7]) }), start });
    }
  };
  open();
  open();
  for (let step = 0; step < 60; step++) {
    await clock.advance(pick([1, 5, 50, 300, 2000, 9000]));
    const roll = random();
    if (roll < 0.5) for (let n = pick([1, 3, 30]); n > 0; n--) broker.publish("a", { n: sent++ });
    else if (roll < 0.6 && world.tabs.length < 5) open();
    else if (roll < 0.7 && world.tabs.length > 1) world.kill(pick(world.tabs));
    else if (roll < 0.76 && world.tabs.length > 1) closeOne(world, pick(world.tabs));
    else if (roll < 0.82) toggle(browser, pick(world.tabs));
    else if (roll < 0.86) network.cut(chance(0.3));
    else if (roll < 0.9) network.websocket = pick(["fine", "fine", "refused", "hangs", "cut 5"]);
    else if (roll < 0.93) network.http = pick(["fine", "fine", "502", "cut 5", "buffers all"]);
  }
  Object.assign(network, { websocket: "fine", http: "fine" });
  for (const tab of world.tabs) if (tab.frozen) browser.thaw(tab);
  network.cut(false);
  await clock.advance(600_000);
  broker.publish("a", { n: sent++ });
  await clock.advance(30 * 60_000);
  for (const { tab, got, gaps, errors, start } of records) {
    assert.deepEqual([gaps, errors], [[], []]);
    // From the start on all of it; a tab that is gone has it up to some message.
    const first = start.after ? 0 : (got[0] ?? sent);
    const end = tab.alive && tab.hub.state !== "closed" ? sent : first + got.length;
    assert.deepEqual(got, upTo(end, first));
  }
  assert.deepEqual(world.tabs.map(({ hub }) => hub.state), world.tabs.map(() => "live"));
  const open_sockets = world.tabs.flatMap(({ connections }) => [...connections]).filter(({ gone }) => !gone).length;
  assert.equal(open_sockets, world.tabs.length ? 1 : 0, "connections of all tabs together");
  for (const tab of world.tabs) tab.hub.close();
  await clock.advance(10_000);
}

function closeOne(world, tab) {
  tab.hub.close();
  world.tabs.splice(world.tabs.indexOf(tab), 1);
}

function toggle(browser, tab) {
  if (tab.frozen) browser.thaw(tab);
  else browser.freeze(tab);
}
