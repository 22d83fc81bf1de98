// Tailwire in a real browser: its own page, pages of other origins, and the clients that browsers bring along.
//
// Chromium is $CHROMIUM, or where Debian puts it. Without one these tests fail; they are not skipped.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';

import { chromium } from 'playwright-core';

import { Broker } from './support/broker.mjs';
import { freshTopic, publish, publishBatch } from './support/http.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** How long the browser may take to show something. A bound for failure, not a wait. */
const PATIENCE_MS = 20_000;
const LANES = ['ws', 'sse', 'nd', 'lp'];

let browser;
before(async () => {
  // Playwright gives each launch a profile folder of its own, and removes it.
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
});
after(() => browser?.close());

/** A new page, with all that it complained of. */
async function openPage(t, url) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.complaints = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') page.complaints.push(message.text());
  });
  page.on('pageerror', (error) => page.complaints.push(error.message));
  page.on('dialog', (dialog) => {
    page.complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective}`));
  });
  await page.goto(url);
  return page;
}

async function startBroker(t, options) {
  const broker = await Broker.start(options);
  t.after(() => broker.stop());
  return broker;
}

// The broker's own page.

const rows = (page, lane) => page.locator(`.lane.${lane} li:not(.note) b`).allTextContents();

/** Waits until every one of the lanes shows these texts, newest first. */
async function eachShows(page, lanes, texts) {
  await page
    .waitForFunction(
      ([lanes, texts]) =>
        lanes.every((lane) => {
          const rows = [...document.querySelectorAll(`.lane.${lane} li:not(.note) b`)];
          return JSON.stringify(rows.map((row) => row.textContent)) === JSON.stringify(texts);
        }),
      [lanes, texts],
    )
    .catch(async (error) => {
      for (const lane of lanes) assert.deepEqual(await rows(page, lane), texts, lane);
      throw error;
    });
}

const allAre = (page, state, lanes = LANES) =>
  page.waitForFunction(
    ([lanes, state]) => lanes.every((lane) => document.querySelector(`.lane.${lane}`).dataset.state === state),
    [lanes, state],
  );

const word = (page, text) =>
  page.waitForFunction((text) => document.getElementById('word').textContent === text, text);

async function say(page, text) {
  await page.fill('#body', text);
  await page.press('#body', 'Enter');
}

describe('the page at /', () => {
  let broker;
  before(async () => {
    broker = await Broker.start();
  });
  after(() => broker?.stop());

  const openTopic = async (t, topic = freshTopic('page')) => {
    const page = await openPage(t, `${broker.base}/#${topic}`);
    await allAre(page, 'live');
    return page;
  };

  test('shows what is published in all four lanes', async (t) => {
    const page = await openTopic(t);
    await say(page, 'hello');
    await eachShows(page, LANES, ['hello']);
    await say(page, '{"a": [1, "two"]}');
    await eachShows(page, LANES, ['{"a":[1,"two"]}', 'hello']);
    await word(page, 'In step');
    const receipt = await page.locator('#receipt').textContent();
    assert.match(receipt, /^201 [0-9a-v]{8}-[0-9a-v]{11}: on disk and acknowledged in /);
    for (const lane of LANES) {
      const cursor = await page.locator(`.lane.${lane} .cursor`).textContent();
      assert.ok(receipt.includes(cursor), `${lane} stands at ${cursor}; ${receipt}`);
      assert.match(await page.locator(`.lane.${lane} li time`).first().textContent(), /^[\d.]+ m?s$/);
    }
    assert.deepEqual(page.complaints, []);
  });

  test('loses nothing over a pause, in any lane', async (t) => {
    const page = await openTopic(t);
    const texts = [];
    for (const lane of LANES) {
      await page.click(`.lane.${lane} button`);
      await allAre(page, 'paused', [lane]);
      const before = [...texts];
      await page.click('#burst');
      for (let n = 1; n <= 20; n += 1) texts.unshift(`${n} of 20`);
      texts.splice(40);
      await eachShows(page, LANES.filter((other) => other !== lane), texts);
      assert.deepEqual(await rows(page, lane), before, 'a paused lane has no connection');
      await word(page, 'Behind');
      await page.click(`.lane.${lane} button`);
      await eachShows(page, [lane], texts);
      await allAre(page, 'live');
      await word(page, 'In step');
      assert.equal(await page.locator(`.lane.${lane} li`).filter({ hasText: 'caught up' }).count(), 20);
      await page.waitForFunction((lane) => document.querySelectorAll(`#tape .${lane}.late`).length === 20, lane);
    }
    assert.deepEqual(page.complaints, []);
  });

  test('shows markup as text', async (t) => {
    const page = await openTopic(t);
    const markup = '<img src=x onerror=alert(1)>';
    await say(page, markup);
    await eachShows(page, LANES, [markup]);
    await say(page, JSON.stringify({ [markup]: '</script><script>alert(2)</script>' }));
    await page.waitForFunction(() => document.querySelectorAll('li b').length === 8);
    assert.equal(await page.locator('img').count(), 0);
    assert.equal(await page.locator('script').count(), 1);
    assert.deepEqual(page.complaints, []);
  });

  test('runs its own script and style, by their digests, and nothing that is put beside them', async (t) => {
    const answer = await fetch(`${broker.base}/`);
    const [html, policy] = [await answer.text(), answer.headers.get('content-security-policy')];
    for (const tag of ['script', 'style']) {
      const [[, text], ...more] = html.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'));
      assert.equal(more.length, 0, tag);
      const digest = createHash('sha256').update(text).digest('base64');
      assert.ok(policy.includes(`${tag}-src 'sha256-${digest}';`), `${tag}: the page has ${digest}, and its policy is ${policy}`);
    }
    assert.doesNotMatch(policy, /unsafe/);
    const page = await openTopic(t);
    const ran = await page.evaluate(() => {
      const script = document.createElement('script');
      script.textContent = 'globalThis.ran = true';
      document.body.append(script);
      const handler = document.createElement('b');
      handler.setAttribute('onclick', 'globalThis.ran = true');
      document.body.append(handler);
      handler.click();
      return globalThis.ran ?? false;
    });
    assert.equal(ran, false);
  });

  test('can load nothing from elsewhere', async (t) => {
    const page = await openTopic(t);
    const directive = await page.evaluate(
      (src) =>
        new Promise((resolve) => {
          addEventListener('securitypolicyviolation', (event) => resolve(event.effectiveDirective));
          new Image().src = src;
        }),
      `${broker.base}/messages/an-image`,
    );
    assert.equal(directive, 'img-src');
  });

  test('tells a gap, and goes on', async (t) => {
    const topic = freshTopic('page');
    const page = await openTopic(t, topic);
    for (const lane of LANES) await page.click(`.lane.${lane} button`);
    await allAre(page, 'paused');
    await publish(broker.base, topic, 'gone');
    const reply = await fetch(`${broker.base}/topics/${topic}`, { method: 'DELETE' });
    assert.equal(reply.status, 204);
    await publish(broker.base, topic, 'kept');
    for (const lane of LANES) await page.click(`.lane.${lane} button`);
    await eachShows(page, LANES, ['kept']);
    for (const lane of LANES) {
      assert.match(await page.locator(`.lane.${lane} .note`).textContent(), /^gap: .* \(deleted\)$/, lane);
    }
    await word(page, 'In step');
  });

  test("shows the broker's code where it refuses", async (t) => {
    const page = await openTopic(t);
    await page.evaluate(() => (location.hash = 'chat/**'));
    await allAre(page, 'live');
    await say(page, 'to whom?');
    await page.waitForFunction(() => /^400 pattern-not-allowed/.test(document.getElementById('receipt').textContent));
    await page.evaluate(() => (location.hash = 'no//topic'));
    await allAre(page, 'error');
    assert.match(await page.locator('.lane.ws .note').textContent(), /^topic-invalid: /);
  });

  test('keeps all lanes in step over a restart', async (t) => {
    const own = await startBroker(t);
    own.command[2] = `127.0.0.1:${own.port}`;
    const topic = freshTopic('page');
    const page = await openPage(t, `${own.base}/#${topic}`);
    await allAre(page, 'live');
    await say(page, 'before');
    await eachShows(page, LANES, ['before']);
    await own.restart();
    await publish(own.base, topic, 'after');
    await eachShows(page, LANES, ['after', 'before']);
    await allAre(page, 'live');
    await word(page, 'In step');
  });
});

// The browser's own clients.

/** Serves the page with the clients from an origin that is not the broker's. */
async function otherOrigin() {
  const html = await readFile(new URL('pages/blank.html', import.meta.url));
  const server = http.createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(html);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

/** The native clients of a page, as the tests use them. */
function clients(page) {
  const start = (how) => (name, ...rest) =>
    page.evaluate(([how, ...rest]) => void globalThis[how](...rest), [how, name, ...rest]);
  const heard = (name) => page.evaluate((name) => heard(name), name);
  return {
    eventSource: start('listenByEventSource'),
    webSocket: start('listenByWebSocket'),
    fetch: start('listenByFetch'),
    heard,
    close: (name) => page.evaluate((name) => clients[name].close(), name),
    send: (name, line) => page.evaluate(([name, line]) => clients[name].send(line), [name, line]),
    /** Waits until `count` items are alike: of this type, and of this kind if they are lines. */
    async until(name, like, count = 1) {
      const found = ([name, like, count]) => {
        const { kind, ...flat } = like;
        const same = (item) =>
          Object.entries(flat).every(([key, value]) => item[key] === value) && (!kind || item.line?.kind === kind);
        const items = heard(name).filter(same);
        return items.length >= count && items;
      };
      const handle = await page.waitForFunction(found, [name, like, count]).catch(async (error) => {
        throw new Error(`${name} waits for ${JSON.stringify(like)}: ${JSON.stringify(await heard(name))}`, { cause: error });
      });
      return handle.jsonValue();
    },
  };
}

const text = (item) => item.data ?? item.line.data;

describe('a page of another origin', () => {
  let other;
  before(async () => {
    other = await otherOrigin();
  });
  after(() => other?.server.close());

  test('is kept out, unless it is let in', async (t) => {
    const broker = await startBroker(t);
    const topic = freshTopic('origin');
    const url = `${broker.base}/topics/${topic}`;
    await publish(broker.base, topic, 'secret');
    const page = clients(await openPage(t, other.origin));
    await page.eventSource('es', `${url}?after=earliest`);
    await page.fetch('fetch', `${url}?format=ndjson&after=earliest`);
    await page.webSocket('ws', `${url.replace('http', 'ws')}?after=earliest`);
    await page.until('es', { type: 'error', closed: true });
    await page.until('fetch', { type: 'error', name: 'TypeError' });
    await page.until('ws', { type: 'close', code: 1006 });
    for (const name of ['es', 'fetch', 'ws']) {
      assert.deepEqual((await page.heard(name)).filter((item) => item.type !== 'error' && item.type !== 'close'), []);
    }
  });

  test('works where its origin is allowed', async (t) => {
    const broker = await startBroker(t, { args: ['--allow-origin', other.origin] });
    const topic = freshTopic('origin');
    const url = `${broker.base}/topics/${topic}`;
    const browserPage = await openPage(t, other.origin);
    const page = clients(browserPage);
    await page.eventSource('es', `${url}?after=earliest`);
    await page.fetch('fetch', `${url}?format=ndjson&after=earliest`);
    await page.webSocket('ws', `${url.replace('http', 'ws')}?after=earliest`);
    // A publish that needs a preflight, and reads the header that it was let see.
    const cursor = await browserPage.evaluate(async (url) => {
      const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': '"k1"' };
      const reply = await fetch(url, { method: 'POST', headers, body: '{"a":1}' });
      return reply.headers.get('Tailwire-Cursor');
    }, url);
    const [event] = await page.until('es', { type: 'message' });
    assert.deepEqual(event, { type: 'message', data: '{"a":1}', cursor });
    for (const name of ['fetch', 'ws']) {
      const [{ line }] = await page.until(name, { type: 'line', kind: 'message' });
      assert.deepEqual([line.cursor, line.data], [cursor, { a: 1 }]);
    }
    const [{ cursor: exposed }] = await page.until('fetch', { type: 'open' });
    assert.match(exposed, /^[0-9a-v]{8}-/);
  });
});

describe("the browser's own clients", () => {
  let other;
  before(async () => {
    other = await otherOrigin();
  });
  after(() => other?.server.close());

  const start = async (t) => {
    const broker = await startBroker(t, { args: ['--allow-origin', other.origin] });
    broker.command[2] = `127.0.0.1:${broker.port}`;
    const topic = freshTopic('native');
    const page = clients(await openPage(t, other.origin));
    return { broker, page, topic, url: `${broker.base}/topics/${topic}` };
  };

  for (const how of ['restart', 'crash']) {
    test(`EventSource comes back by itself from a ${how}, with nothing lost or doubled`, async (t) => {
      const { broker, page, topic, url } = await start(t);
      await page.eventSource('es', `${url}?after=latest`);
      await page.until('es', { type: 'tailwire.caught_up' });
      const expected = [];
      const add = async (data) => expected.push({ type: 'message', data, cursor: (await publish(broker.base, topic, data)).cursor });
      await add('one');
      await add('two\nlines');
      await page.until('es', { type: 'message' }, 2);
      await broker[how]();
      await add('three');
      await page.until('es', { type: 'message' }, 3);
      await add('four');
      const messages = await page.until('es', { type: 'message' }, 4);
      assert.deepEqual(messages, expected);
      const heard = await page.heard('es');
      const byes = heard.filter((item) => item.type === 'tailwire.bye');
      if (how === 'restart') {
        assert.equal(byes.length, 1);
        assert.equal(JSON.parse(byes[0].data).reason, 'drain');
      }
      assert.ok(!heard.some((item) => item.type === 'tailwire.gap' || item.closed), JSON.stringify(heard));
    });
  }

  test('EventSource loses nothing where it had no message yet', async (t) => {
    const { broker, page, topic, url } = await start(t);
    await page.eventSource('es', url);
    await page.until('es', { type: 'tailwire.caught_up' });
    await broker.crash();
    await publish(broker.base, topic, 'while it was away');
    const [message] = await page.until('es', { type: 'message' });
    assert.equal(message.data, 'while it was away');
  });

  test('WebSocket works with and without the subprotocol, and no other', async (t) => {
    const { broker, page, topic, url } = await start(t);
    const ws = `${url.replace('http', 'ws')}?after=earliest`;
    await page.webSocket('none', ws);
    await page.webSocket('v1', ws, ['tailwire.v1']);
    await page.webSocket('either', ws, ['tailwire.v9', 'tailwire.v1']);
    await page.webSocket('unknown', ws, ['tailwire.v9']);
    await page.until('none', { type: 'open', protocol: '' });
    await page.until('v1', { type: 'open', protocol: 'tailwire.v1' });
    await page.until('either', { type: 'open', protocol: 'tailwire.v1' });
    await page.until('unknown', { type: 'close', code: 1006 });
    await page.send('v1', { kind: 'publish', id: 'p', topic, data: 'by a browser', type: 'text/plain' });
    const [{ line: receipt }] = await page.until('v1', { type: 'line', kind: 'ok' }, 2).then((items) => items.slice(-1));
    for (const name of ['none', 'v1', 'either']) {
      const [{ line }] = await page.until(name, { type: 'line', kind: 'message' });
      assert.deepEqual([line.cursor, line.data], [receipt.cursor, 'by a browser']);
    }
    await page.close('none');
    await page.until('none', { type: 'close', code: 1000 });
    await broker.end('SIGTERM');
    const [{ line: bye }] = await page.until('v1', { type: 'line', kind: 'bye' });
    assert.equal(bye.reason, 'drain');
    await page.until('v1', { type: 'close', code: 1012 });
  });

  test('an NDJSON stream is read line by line, and aborted', async (t) => {
    const { broker, page, topic, url } = await start(t);
    await page.fetch('nd', `${url}?format=ndjson`);
    await page.until('nd', { type: 'line', kind: 'caught_up' });
    // Larger than any buffer on the way, and with characters that chunks may cut.
    const values = Array.from({ length: 200 }, (_, n) => `${n} ${'日本🪢'.repeat(400)}`);
    await publishBatch(broker.base, topic, values);
    const lines = await page.until('nd', { type: 'line', kind: 'message' }, values.length);
    assert.deepEqual(lines.map(text), values);
    await page.close('nd');
    await page.until('nd', { type: 'error', name: 'AbortError' });
    await publish(broker.base, topic, 'the broker goes on');
  });

  test('one cursor moves between the three', async (t) => {
    const { broker, page, topic, url } = await start(t);
    const ways = {
      eventSource: (after) => [`${url}?after=${after}`],
      webSocket: (after) => [`${url.replace('http', 'ws')}?after=${after}`],
      fetch: (after) => [`${url}?format=ndjson&after=${after}`],
    };
    const message = (way) => (way === 'eventSource' ? { type: 'message' } : { type: 'line', kind: 'message' });
    let cursor = 'earliest';
    let n = 0;
    const order = ['eventSource', 'webSocket', 'fetch', 'webSocket', 'eventSource', 'fetch', 'eventSource'];
    for (const [turn, way] of order.entries()) {
      const name = `${way}-${turn}`;
      // One message is there already, and one comes live.
      await publish(broker.base, topic, `${(n += 1)}`);
      await page[way](name, ...ways[way](cursor));
      await page.until(name, message(way));
      await publish(broker.base, topic, `${(n += 1)}`);
      const items = await page.until(name, message(way), 2);
      assert.deepEqual(items.map(text), [`${n - 1}`, `${n}`], name);
      cursor = items[1].cursor ?? items[1].line.cursor;
      await page.close(name);
    }
  });
});
