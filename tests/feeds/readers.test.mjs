// Feeds as JavaScript's readers of the field parse them, and held against the schema of JSON Feed.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

import { Broker } from '../blackbox/support/broker.mjs';
import { freshTopic, publish, publishBatch, request } from '../blackbox/support/http.mjs';

// Node looks for packages from this file upwards; those of the tests stand beside.
const require = createRequire(new URL('../package.json', import.meta.url));
const Parser = require('rss-parser');
const validate = require('jsonfeed-validator');

let broker;
before(async () => {
  broker = await Broker.start({ args: ['--public-url', 'https://rt.example.com'] });
});
after(() => broker?.stop());

const HOSTILE = [
  { title: ']]> & <b>', text: 'a\u0000b\u202e', url: 'javascript:alert(1)' },
  { title: 'With a link', url: 'https://example.com/1', author: { name: 'Ada' }, published: '2026-11-30T09:00:00Z' },
  [1, 2],
  'plain',
];

test('rss-parser reads a feed, and its archives one after the other', async () => {
  const topic = freshTopic('feeds');
  await publishBatch(broker.base, topic, HOSTILE);
  await publishBatch(broker.base, topic, Array.from({ length: 300 }, (_, number) => ({ title: `n${number}` })));
  const parser = new Parser({ customFields: { feed: ['link'] } });
  const titles = [];
  let url = `${broker.base}/topics/${topic}?format=atom`;
  while (url) {
    const { text } = await request(url);
    const feed = await parser.parseString(text);
    titles.push(...feed.items.map((item) => item.title));
    assert.equal(new Set(feed.items.map((item) => item.id)).size, feed.items.length);
    assert.ok(feed.items.every((item) => !Number.isNaN(Date.parse(item.isoDate))));
    const previous = /rel="prev-archive" href="https:\/\/rt.example.com([^"]*)"/.exec(text);
    url = previous && `${broker.base}${previous[1].replaceAll('&amp;', '&')}`;
  }
  const numbered = Array.from({ length: 300 }, (_, number) => `n${299 - number}`);
  assert.deepEqual(titles, [...numbered, 'plain', 'JSON message', 'With a link', ']]> & <b>']);
});

test('a JSON Feed is what the schema asks for', async () => {
  const topic = freshTopic('feeds');
  const url = `${broker.base}/topics/${topic}?format=jsonfeed`;
  for (const round of ['empty', 'hostile', 'many']) {
    if (round === 'hostile') {
      await publishBatch(broker.base, topic, HOSTILE);
      await publish(broker.base, topic, Buffer.from([0xff, 0xd8]), { 'content-type': 'image/jpeg' });
      await publish(broker.base, topic, 'a text\nof two lines');
    }
    if (round === 'many') await publishBatch(broker.base, topic, Array.from({ length: 400 }, (_, title) => ({ title })));
    const feed = JSON.parse((await request(url)).text);
    assert.equal(feed.version, 'https://jsonfeed.org/version/1.1');
    // The validator is of version 1, which has one `author` where 1.1 has a list of them.
    const items = feed.items.map(({ authors, ...item }) => (authors ? { ...item, author: authors[0] } : item));
    const found = validate({ ...feed, items, version: 'https://jsonfeed.org/version/1' });
    assert.deepEqual(found, [], round);
    assert.equal(feed.feed_url, `https://rt.example.com/topics/${topic}?format=jsonfeed`);
    assert.equal('next_url' in feed, round === 'many');
  }
});
