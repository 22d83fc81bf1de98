// The JavaScript client as the broker serves it: its headers, and that a page of any origin can load and use it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { chromium } from 'playwright-core';

import { Broker } from './support/broker.mjs';
import { assertProblem, freshTopic, publish, request } from './support/http.mjs';

const FILES = ['client.js', 'client.mjs', 'client-tabs.mjs'];
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
/** How long the browser may take to show something. A bound for failure, not a wait. */
const PATIENCE_MS = 20_000;

const built = (name) => readFile(new URL(`../../clients/js/dist/served/${name}`, import.meta.url));

/** A request whose answer is not decompressed on the way. */
async function get(url, headers = {}, method = 'GET') {
  const sent = http.request(url, { headers, method });
  sent.end();
  const [response] = await once(sent, 'response');
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) };
}

let broker;
before(async () => {
  broker = await Broker.start();
});
after(() => broker?.stop());

for (const name of FILES) {
  test(`/${name} is the built file, plain or compressed, for every origin`, async () => {
    const url = `${broker.base}/${name}`;
    const expected = {
      'content-type': 'text/javascript; charset=utf-8',
      'cache-control': 'no-cache',
      vary: 'accept-encoding',
      'x-content-type-options': 'nosniff',
      'access-control-allow-origin': '*',
      'cross-origin-resource-policy': 'cross-origin',
    };
    const has = ({ headers }, more) => {
      for (const [header, value] of Object.entries({ ...expected, ...more })) assert.equal(headers[header], value, header);
    };
    const plain = await get(url, { origin: 'https://elsewhere.example' });
    assert.equal(plain.status, 200);
    has(plain, { 'content-encoding': undefined });
    assert.deepEqual(plain.body, await built(name));
    const gzip = await get(url, { 'accept-encoding': 'br, gzip' });
    has(gzip, { 'content-encoding': 'gzip', etag: plain.headers.etag });
    assert.deepEqual(gunzipSync(gzip.body), plain.body);
    assert.ok(gzip.body.length < plain.body.length / 2);

    const again = await get(url, { 'if-none-match': plain.headers.etag, 'accept-encoding': 'gzip' });
    assert.deepEqual([again.status, again.body.length], [304, 0]);
    has(again, { 'content-type': undefined, 'content-encoding': undefined, etag: plain.headers.etag });
    const head = await get(url, {}, 'HEAD');
    assert.deepEqual([head.status, head.body.length, head.headers['content-length']], [200, 0, `${plain.body.length}`]);
    const post = await request(url, { method: 'POST' });
    assertProblem(post, 405, 'method-not-allowed');
    assert.equal(post.headers.get('allow'), 'GET, HEAD, OPTIONS');
  });
}

test('where origins are allowed, the answers to them say so too', async (t) => {
  const open = await Broker.start({ args: ['--allow-origin', 'https://app.example'] });
  t.after(() => open.stop());
  for (const [origin, allowed] of [['https://app.example', 'https://app.example'], ['https://other.example', '*']]) {
    const { headers } = await get(`${open.base}/client.mjs`, { origin });
    assert.deepEqual([headers['access-control-allow-origin'], headers.vary], [allowed, 'accept-encoding, origin']);
  }
});

describe('a page without npm', () => {
  // Its markup, with the broker's address; it shows what it gets, and an answer to it.
  const run = `
    const hub = connect(BROKER);
    hub.subscribe(TOPIC, { after: "earliest" }).on("message", ({ data }) => {
      document.body.append(data + " ");
      if (data === "hello") void hub.publish(TOPIC, "and hello to you", { type: "text/plain" });
    });`;
  const KINDS = {
    'a script': '<script src="BROKER/client.js"></script><script>const { connect } = tailwire;RUN</script>',
    'a module': '<script type="module">import { connect } from "BROKER/client.mjs";RUN</script>',
    'modules, shared among tabs': `<script type="module">import { connect as open } from "BROKER/client.mjs"; import { tabs } from "BROKER/client-tabs.mjs";
      const connect = (url) => open(url, { tabs: tabs() });RUN</script>`,
  };
  let browser;
  let server;
  let origin;
  let markup;
  before(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'] });
    server = http.createServer((_, response) => response.setHeader('content-type', 'text/html').end(markup)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    origin = `http://127.0.0.1:${server.address().port}`;
  });
  after(async () => {
    await browser?.close();
    server?.closeAllConnections();
    server?.close();
  });

  for (const [kind, template] of Object.entries(KINDS)) {
    test(`${kind}, from another origin`, async (t) => {
      const own = await Broker.start({ args: ['--allow-origin', origin] });
      t.after(() => own.stop());
      const topic = freshTopic('client');
      markup = `<!doctype html><body>${template.replace('RUN', run)}`.replaceAll('BROKER/', `${own.base}/`).replaceAll('BROKER', JSON.stringify(own.base)).replaceAll('TOPIC', JSON.stringify(topic));
      const page = await browser.newPage();
      page.setDefaultTimeout(PATIENCE_MS);
      const complaints = [];
      page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
      page.on('pageerror', (error) => complaints.push(error.message));
      t.after(() => page.close());
      await page.goto(origin);
      await publish(own.base, topic, 'hello');
      await page.getByText('hello and hello to you').waitFor();
      assert.deepEqual(complaints.filter((text) => !text.includes('favicon')), []);
    });
  }
});
