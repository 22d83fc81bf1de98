// Chromium's own cache: what may be kept is fetched once, and all else is asked for.
//
// Chromium is $CHROMIUM, or where Debian puts it. Without one these tests fail; they are not skipped.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { chromium } from 'playwright-core';

import { Broker } from './support/broker.mjs';
import { freshTopic, publishBatch, request } from './support/http.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

let browser;
let broker;
before(async () => {
  broker = await Broker.start();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
});
after(async () => {
  await browser?.close();
  await broker?.stop();
});

test('full pages, archives and messages are kept; live pages, polls and problems are not', async (t) => {
  const topic = freshTopic('cache');
  const receipts = await publishBatch(broker.base, topic, Array.from({ length: 500 }, (_, n) => ({ title: `n${n}` })));
  const first = receipts[0].cursor;
  const feed = JSON.parse((await request(`${broker.base}/topics/${topic}?format=jsonfeed`)).text);
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`${broker.base}/healthz`);
  const thrice = (path) =>
    page.evaluate(async (path) => {
      const texts = new Set();
      for (let n = 0; n < 3; n += 1) texts.add(await (await fetch(path)).text());
      // An answer of the cache transfers nothing; a question that is answered 304 transfers its head.
      const entries = performance.getEntriesByName(new URL(path, location.href).href);
      return { texts: texts.size, requests: entries.filter((entry) => entry.transferSize > 0).length };
    }, path);
  for (const [path, requests] of [
    [`/topics/${topic}?after=${first}&limit=100`, 1],
    [`/messages/${first}`, 1],
    [`/${feed._tailwire.prev_archive}`, 1],
    [`/topics/${topic}?after=earliest`, 3],
    [`/topics/${topic}?last=1`, 3],
    [`/topics/${topic}?after=${receipts.at(-1).cursor}`, 3],
    [`/topics/${topic}?format=nonsense`, 3],
  ]) {
    const found = await thrice(path);
    assert.equal(found.requests, requests, path);
    if (!path.includes(receipts.at(-1).cursor)) assert.equal(found.texts, 1, path);
  }
});
