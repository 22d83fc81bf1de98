/** The client in a real browser, as the broker serves it: tabs that share a connection, and the page of the examples. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { connect } from "../dist/tailwire.mjs";
import { Broker, missing as noBroker } from "./support/broker.mjs";
import { launch, missing as noBrowser, serveFiles } from "./support/browser.mjs";

/** A bound for failure, not a wait. */
const PATIENCE_MS = 40_000;

const upTo = (count, from = 0) => Array.from({ length: count - from }, (_, n) => n + from);

describe("in Chromium", { skip: noBroker || noBrowser }, () => {
  let broker;
  let files;
  let browser;
  let sending;
  before(async () => {
    files = await serveFiles();
    broker = await Broker.start("--allow-origin", files.origin);
    browser = await launch();
    sending = connect(broker.url, { transports: ["poll"] });
  });
  after(async () => {
    sending?.close();
    await browser?.close();
    files?.close();
    await broker?.stop();
  });

  const context = async (t) => {
    const context = await browser.newContext();
    context.setDefaultTimeout(PATIENCE_MS);
    t.after(() => context.close());
    return context;
  };

  /** A tab that listens to a topic over the connection that all share. */
  const open = async (context, topic) => {
    const page = await context.newPage();
    page.complaints = [];
    page.on("pageerror", (error) => page.complaints.push(error.message));
    await page.goto(`${files.origin}/blank`);
    await page.evaluate(
      async ([url, topic]) => {
        const { connect } = await import(`${url}client.mjs`);
        const { tabs } = await import(`${url}client-tabs.mjs`);
        const hub = connect(url, { tabs: tabs() });
        const got = [];
        const cursors = [];
        const gaps = [];
        const subscription = hub.subscribe(topic, { after: "earliest" });
        subscription.on("message", ({ data, cursor }) => (got.push(data.n), cursors.push(cursor)));
        subscription.on("gap", (gap) => gaps.push(gap));
        Object.assign(globalThis, { hub, got, cursors, gaps });
      },
      [broker.url, topic],
    );
    return page;
  };

  const until = (page, count) => page.waitForFunction((count) => globalThis.got.length >= count, count);
  const got = (page) => page.evaluate(() => globalThis.got);

  /** How many connections of a kind the broker has, by its own count. */
  const connections = async (transport) => {
    const text = await broker.metrics();
    return Number(new RegExp(`^tailwire_connections\\{transport="${transport}"\\} (\\d+)`, "m").exec(text)?.[1] ?? 0);
  };

  const publish = async (topic, from, to) => {
    for (const n of upTo(to, from)) await sending.publish(topic, { n });
  };

  const crash = async (page) => {
    const session = await page.context().newCDPSession(page);
    const crashed = new Promise((resolve) => page.once("crash", resolve));
    session.send("Page.crash").catch(() => {});
    await crashed;
  };

  for (const [name, end] of [["is closed", (page) => page.close()], ["crashes", crash], ["goes elsewhere", (page) => page.goto("about:blank")], ["closes its hub", (page) => page.evaluate(() => globalThis.hub.close())]]) {
    test(`tabs share one connection; the one that leads ${name} in mid-run`, async (t) => {
      const tabs = await context(t);
      const topic = `tabs/${name.replaceAll(" ", "-")}`;
      await publish(topic, 0, 20);
      const leader = await open(tabs, topic);
      const pages = [leader, await open(tabs, topic), await open(tabs, topic)];
      for (const page of pages) await until(page, 20);
      assert.equal(await connections("websocket"), 1);
      for (const page of pages) assert.equal(await page.evaluate(() => globalThis.hub.state), "live");

      const sent = publish(topic, 20, 220);
      await until(pages[1], 60);
      await end(leader);
      await sent;
      const rest = pages.slice(1);
      // A publish of a follower, under a key: once, however often it is sent.
      const receipts = await rest[0].evaluate((topic) => Promise.all([1, 2].map(() => globalThis.hub.publish(topic, { n: 220 }, { key: topic }))), topic);
      assert.deepEqual(receipts[0], receipts[1]);
      for (const page of rest) {
        await until(page, 221);
        assert.deepEqual(await got(page), upTo(221));
        assert.deepEqual(await page.evaluate(() => globalThis.gaps), []);
        assert.deepEqual(page.complaints, []);
        await page.waitForFunction(() => globalThis.hub.state === "live");
      }
      assert.equal(await connections("websocket"), 1);
      assert.equal(await connections("sse"), 0);
    });
  }

  test("a page of an origin that isn't allowed gets the broker's refusal, from each transport and by `probe()`", async (t) => {
    // The broker's answers to such a page, of which it can read the refusal of a POST alone.
    const sentence = { code: "foreign-origin", status: 403, title: "Requests from this origin are not permitted", detail: "start the broker with --allow-origin" };
    const server = createServer((request, response) => {
      if (request.method === "GET" && !request.headers.upgrade) return response.writeHead(200, { "content-type": "application/json" }).end('{"messages":[],"cursor":"c-1","more":false}');
      response.writeHead(403, { "content-type": "application/problem+json", "access-control-allow-origin": "*" }).end(JSON.stringify(sentence));
    });
    server.on("upgrade", (_, socket) => socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => (server.closeAllConnections(), server.close()));
    const page = await (await context(t)).newPage();
    await page.goto(`${files.origin}/blank`);
    const outcome = await page.evaluate(
      async ([client, url]) => {
        const { connect } = await import(`${client}client.mjs`);
        const failed = (hub) => new Promise((resolve) => hub.subscribe("a").on("error", ({ message }) => resolve(message)));
        const names = ["websocket", "stream", "long-poll", "poll"];
        const hubs = [...names.map((name) => [name]), names].map((transports) => connect(url, { transports }));
        const publishing = connect(url).publish("a", 1).catch(({ message }) => message);
        const probe = await connect(url).probe();
        return [...(await Promise.all(hubs.map(failed))), await publishing, ...names.map((name) => probe[name].why)];
      },
      [broker.url, `http://127.0.0.1:${server.address().port}/`],
    );
    assert.deepEqual(outcome, Array(10).fill(`${sentence.title}: ${sentence.detail}`));
  });

  test("the page of the examples: messages, the transport and why, a network to break", async (t) => {
    const page = await (await context(t)).newPage();
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(`${files.origin}/examples/index.html?broker=${broker.url}&topic=shown`);
    const transport = (name) => page.locator("#transports li.now", { hasText: name }).waitFor();
    await transport("websocket");
    const say = async (text) => {
      await page.getByPlaceholder("Say something").fill(text);
      await page.getByRole("button", { name: "Publish" }).click();
      await page.locator("#messages li", { hasText: text }).waitFor();
    };
    await say("over the WebSocket");
    await page.locator('input[name="websocket"][value="refused"]').check();
    await page.locator("#why li", { hasText: "handshake failed" }).waitFor();
    await transport("stream");
    await say("over the stream");
    await page.locator('input[name="stream"][value="held back by a proxy"]').check();
    await transport("long-poll");
    await say("over the long-poll");
    await page.getByRole("button", { name: "Try every transport" }).click();
    await page.locator("#transports li", { hasText: "held back" }).waitFor();
    await page.locator('input[name="http"][value="unplugged"]').check();
    await page.locator("#state", { hasText: "connecting" }).waitFor();
    await sending.publish("shown", "while unplugged", { type: "text/plain" });
    await page.locator('input[name="http"][value="fine"]').check();
    await page.locator("#messages li", { hasText: "while unplugged" }).waitFor();
    const texts = await page.locator("#messages li").allTextContents();
    assert.deepEqual(texts.map((text) => text.replace(/^.*[AP]M/, "")), ["over the WebSocket", "over the stream", "over the long-poll", "while unplugged"]);
    assert.deepEqual(complaints, []);
  });
});
