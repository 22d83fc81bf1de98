// History: starting at a time, looking back, and what is taken out of the log one by one.

import assert from 'node:assert/strict';
import { cp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Broker, emptyFolder, eventually, run } from './support/broker.mjs';
import { SettableClock } from './support/clock.mjs';
import { CURSOR, assertProblem, freshTopic, link, publish, publishBatch, readAll, remove, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { TRANSPORTS, open, textOf } from './support/transports.mjs';

const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const cursorsOf = (messages) => messages.map(({ cursor }) => cursor);
const setOptions = async (base, topic, options) => {
  const headers = { 'content-type': 'application/json' };
  const answer = await request(`${base}/options/${topic}`, { method: 'PUT', body: JSON.stringify(options), headers });
  assert.equal(answer.status, 200, answer.text);
};
const compact = (base, topic) => setOptions(base, topic, { compact: true });

/** Waits until a request is answered so; it has to come to that. */
const until = (url, status) => eventually(async () => (await request(url)).status === status, `${url} is not ${status}`);

describe('starting at a time', () => {
  /** A broker with three messages, an hour between them. The log is one, and a clock is set for all of its topics. */
  async function threeHours(t) {
    const clock = new SettableClock(-7200);
    const broker = await Broker.start({ env: clock.env });
    t.after(async () => {
      await broker.stop();
      clock.remove();
    });
    const topic = freshTopic();
    const receipts = [];
    for (const seconds of [-7200, -3600, 0]) {
      clock.set(seconds);
      receipts.push(await publish(broker.base, topic, `at ${seconds}`));
    }
    return { broker, topic, receipts };
  }

  for (const transport of TRANSPORTS) {
    test(`messages of that time and later come: ${transport.name}`, async (t) => {
      const { broker, topic, receipts } = await threeHours(t);
      const at = (where) => open(t, transport, { base: broker.base, path: `/topics/${topic}`, ...where });
      const wanted = cursorsOf(receipts);
      for (const [start, from] of [[receipts[1].time, 1], [receipts[2].time, 2], ['-90m', 1], ['-5400s', 1], ['-1d', 0]]) {
        const listener = await at({ after: start });
        const place = listener.cursor;
        assert.deepEqual(cursorsOf(await listener.messages(3 - from)), wanted.slice(from), start);
        if (from > 0 && transport.name !== 'pages' && transport.name !== 'long-poll') {
          // The opening names the place before the first message.
          assert.equal(place < wanted[from] && place >= wanted[from - 1], true, start);
        }
        listener.close();
      }
      // The future is the end of what there is.
      const listener = await at({ after: '2099-01-01T00:00:00Z' });
      const live = await publish(broker.base, topic, 'live');
      assert.deepEqual(cursorsOf(await listener.messages(1)), [live.cursor]);
    });
  }

  test('a WebSocket subscribes, and asks for pages, from a time on', async (t) => {
    const { broker, topic, receipts } = await threeHours(t);
    const socket = await LineSocket.open(t, broker.base, '/stream');
    const page = await socket.ask({ kind: 'page', topic, after: receipts[1].time });
    assert.deepEqual(cursorsOf(page.messages), cursorsOf(receipts.slice(1)));
    const ok = await socket.ask({ kind: 'subscribe', topic, after: '-90m' });
    assert.equal(ok.kind, 'ok');
    assert.ok(ok.cursor >= receipts[0].cursor && ok.cursor < receipts[1].cursor, ok.cursor);
  });

  test('forms of times, and what is none', async (t) => {
    const { broker, topic, receipts } = await threeHours(t);
    const page = (value) => request(`${broker.base}/topics/${topic}?after=${value}`);
    const time = new Date(receipts[1].time);
    const east = new Date(time.getTime() + 3_600_000).toISOString().replace('Z', '');
    for (const value of [`${east}%2B01:00`, `${east}+01:00`, receipts[1].time.toLowerCase()]) {
      const answer = await page(value);
      assert.deepEqual(cursorsOf(answer.json.messages), cursorsOf(receipts.slice(1)), value);
    }
    for (const value of ['2026-11-31T10:00:00Z', '2026-11-30', '-10', '-10w', '-m', '--1m', '-1.5h']) {
      const problem = assertProblem(await page(value), 400, 'parameter-invalid');
      assert.equal(problem.parameter, 'after', value);
    }
  });

  test('what is gone of that time is a gap', async (t) => {
    const { broker, topic, receipts } = await threeHours(t);
    await remove(broker.base, topic);
    const last = await publish(broker.base, topic, 'last');
    const url = `${broker.base}/topics/${topic}`;
    const gap = assertProblem(await request(`${url}?after=${receipts[1].time}`), 410, 'gap');
    assert.equal(gap.to, receipts[2].cursor);
    const rest = await request(`${url}?after=${gap.from}&gap=${gap.to}`);
    assert.deepEqual(cursorsOf(rest.json.messages), [last.cursor]);
    assert.equal((await request(`${url}?after=${last.time}`)).status, 200);
  });
});

describe('looking back', () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  test('the prev links lead to the beginning, and each page is next to the one after it', async () => {
    const topic = freshTopic();
    const other = freshTopic();
    const receipts = [];
    for (const part of numbers(6)) {
      receipts.push(...(await publishBatch(broker.base, topic, numbers(40))));
      await publishBatch(broker.base, other, [part]);
    }
    let url = `${broker.base}/topics/${topic}?last=70&limit=70`;
    const pages = [];
    for (;;) {
      const page = await request(url);
      assert.equal(page.status, 200, page.text);
      pages.unshift(page.json.messages);
      const prev = link(page, url, 'prev');
      assert.equal(prev === undefined, page.json.prev === undefined);
      if (!prev) break;
      assert.equal(new URL(prev).searchParams.get('before'), page.json.prev);
      assert.equal(page.json.prev, page.json.messages[0].cursor);
      url = prev;
    }
    assert.deepEqual(cursorsOf(pages.flat()), cursorsOf(receipts));
    assert.deepEqual(pages.map((page) => page.length), [30, 70, 70, 70]);
    assert.equal(receipts.at(-1).cursor, pages.at(-1).at(-1).cursor);
  });

  test('a page before a cursor goes on like any other, and full ones can be cached', async () => {
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(9));
    const url = `${broker.base}/topics/${topic}?before=${receipts[6].cursor}&limit=4`;
    const page = await request(url);
    assert.deepEqual(cursorsOf(page.json.messages), cursorsOf(receipts.slice(2, 6)));
    assert.equal(page.json.cursor, receipts[5].cursor);
    assert.equal(page.headers.get('tailwire-cursor'), receipts[5].cursor);
    assert.equal(page.headers.get('cache-control'), 'public, max-age=3600, immutable');
    const known = await request(url, { headers: { 'if-none-match': page.headers.get('etag') } });
    assert.equal(known.status, 304);
    const on = await request(link(page, url, 'next'));
    assert.deepEqual(cursorsOf(on.json.messages), cursorsOf(receipts.slice(6)).slice(0, 4));
    const first = await request(`${broker.base}/topics/${topic}?before=${receipts[2].cursor}&limit=4`);
    assert.deepEqual(cursorsOf(first.json.messages), cursorsOf(receipts.slice(0, 2)));
    assert.deepEqual([first.json.more, first.json.prev, link(first, url, 'prev')], [false, undefined, undefined]);
    assert.equal(first.headers.get('cache-control'), 'private, no-cache');
    // Nothing is there, and a wait would change nothing.
    const none = await request(`${broker.base}/topics/${topic}?before=${receipts[0].cursor}&wait=20`);
    assert.deepEqual([none.status, none.json.messages, none.json.more], [200, [], false]);
    assert.equal(none.headers.get('preference-applied'), null);
  });

  test('a page has the newest that fit, whatever their size', async () => {
    const topic = freshTopic();
    const receipts = [];
    for (const size of [10, 700_000, 500_000, 400_000, 10]) {
      receipts.push(await publish(broker.base, topic, 'x'.repeat(size)));
    }
    let before = (await publish(broker.base, topic, 'end')).cursor;
    const pages = [];
    while (before) {
      const page = await request(`${broker.base}/topics/${topic}?before=${before}`);
      pages.push(cursorsOf(page.json.messages).map((cursor) => cursorsOf(receipts).indexOf(cursor)));
      before = page.json.prev;
    }
    assert.deepEqual(pages, [[2, 3, 4], [0, 1]]);
  });

  test('patterns, feeds and WebSockets look back as well', async (t) => {
    const root = freshTopic();
    const receipts = [];
    for (const part of numbers(5)) receipts.push(await publish(broker.base, `${root}/${part % 2}`, `${part}`));
    const before = receipts[4].cursor;
    const wanted = cursorsOf(receipts.slice(1, 4));
    const page = await request(`${broker.base}/topics/${root}/*?before=${before}&limit=3`);
    assert.deepEqual(cursorsOf(page.json.messages), wanted);
    assert.equal(page.headers.get('cache-control'), 'private, no-cache');
    const feed = await request(`${broker.base}/topics/${root}/*?format=jsonfeed&before=${before}&limit=3`);
    assert.deepEqual(JSON.parse(feed.text).items.map((item) => item._tailwire.cursor), [...wanted].reverse());
    const socket = await LineSocket.open(t, broker.base, '/stream');
    const ok = await socket.ask({ kind: 'page', topic: `${root}/*`, before, limit: 3 });
    assert.deepEqual([cursorsOf(ok.messages), ok.prev], [wanted, wanted[0]]);
    const refused = await socket.ask({ kind: 'subscribe', topic: `${root}/*`, before });
    assert.deepEqual([refused.code, refused.parameter], ['parameter-invalid', 'before']);
  });

  test('it stands alone, and no stream goes backwards', async () => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'x');
    const url = `${broker.base}/topics/${topic}?before=${cursor}`;
    for (const more of ['after=earliest', 'last=3', 'after=-10m', 'format=sse', 'format=ndjson']) {
      assert.equal(assertProblem(await request(`${url}&${more}`), 400, 'parameter-invalid').parameter, 'before', more);
    }
    assertProblem(await request(`${broker.base}/topics/${topic}?before=earliest`), 400, 'cursor-invalid');
    assert.equal((await request(`${url}&format=raw`)).status, 200);
  });

  test('a cursor that this log never gave is a gap, once', async () => {
    const topic = freshTopic();
    await publish(broker.base, topic, 'x');
    const url = `${broker.base}/topics/${topic}?before=00000000-00000000001`;
    const answer = await request(url);
    assert.equal(assertProblem(answer, 410, 'gap').reason, 'epoch');
    const again = await request(link(answer, url, 'prev'));
    assert.deepEqual([again.status, again.json.messages], [200, []]);
  });

  test('what retention or a DELETE took is not there, and nothing is said of it', async () => {
    const root = freshTopic();
    await publishBatch(broker.base, `${root}/a`, numbers(3));
    const kept = await publishBatch(broker.base, `${root}/b`, numbers(2));
    await remove(broker.base, `${root}/a`);
    const end = await publish(broker.base, `${root}/a`, 'end');
    const page = await request(`${broker.base}/topics/${root}/*?before=${end.cursor}`);
    assert.deepEqual(cursorsOf(page.json.messages), cursorsOf(kept));
  });
});

describe('one message is deleted', () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  const drop = (cursor) => request(`${broker.base}/messages/${cursor}`, { method: 'DELETE' });

  for (const transport of TRANSPORTS) {
    test(`a gap for a client that has not seen it, and none for one that has: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      const receipts = await publishBatch(broker.base, topic, numbers(5));
      assert.equal((await drop(receipts[2].cursor)).status, 204);
      const at = (place) => open(t, transport, { base: broker.base, path: `/topics/${topic}`, after: place });
      const late = await at(receipts[0].cursor);
      const gap = await late.until('message', 'gap');
      assert.deepEqual(
        [gap.kind, gap.from, gap.to, gap.reason],
        ['gap', receipts[0].cursor, receipts[2].cursor, 'deleted'],
      );
      assert.deepEqual(cursorsOf(await late.messages(3)), [1, 3, 4].map((at) => receipts[at].cursor));
      for (const seen of [2, 3]) {
        const listener = await at(receipts[seen].cursor);
        const first = await listener.until('message', 'gap');
        assert.deepEqual([first.kind, first.cursor], ['message', receipts[seen + 1].cursor]);
        listener.close();
      }
      // From the oldest on there is no gap: others may have been before it.
      const whole = await at('earliest');
      assert.deepEqual(cursorsOf(await whole.messages(4)), [0, 1, 3, 4].map((at) => receipts[at].cursor));
    });

    test(`no gap for a listener that has it: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      const listener = await open(t, transport, { base: broker.base, path: `/topics/${topic}` });
      const first = await publish(broker.base, topic, 'first');
      await listener.messages(1);
      assert.equal((await drop(first.cursor)).status, 204);
      const next = await publish(broker.base, topic, 'next');
      const item = await listener.until('message', 'gap');
      assert.deepEqual([item.kind, item.cursor], ['message', next.cursor]);
    });
  }

  test('exactly it: the rest is as it was, and it is gone for good', async () => {
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(500));
    const gone = [0, 7, 250, 499].map((at) => receipts[at].cursor);
    for (const cursor of gone) assert.equal((await drop(cursor)).status, 204);
    const rest = cursorsOf(receipts).filter((cursor) => !gone.includes(cursor));
    const check = async () => {
      assert.deepEqual(cursorsOf(await readAll(broker.base, `/topics/${topic}`)), rest);
      for (const cursor of gone) assertProblem(await request(`${broker.base}/messages/${cursor}`), 410, 'message-gone');
      assert.equal((await request(`${broker.base}/messages/${receipts[8].cursor}`)).status, 200);
      const last = await request(`${broker.base}/topics/${topic}?last=2`);
      assert.deepEqual(cursorsOf(last.json.messages), rest.slice(-2));
      const info = await request(`${broker.base}/topics?prefix=${topic}`);
      assert.deepEqual([info.json.topics[0].messages, info.json.topics[0].head], [496, rest[0]]);
      const gap = assertProblem(await request(`${broker.base}/topics/${topic}?after=${rest[9]}`), 410, 'gap');
      assert.deepEqual([gap.reason, gap.to], ['deleted', gone[3]]);
    };
    await check();
    await broker.crash();
    await check();
    await broker.restart();
    await check();
    for (const cursor of gone) assertProblem(await drop(cursor), 410, 'message-gone');
  });

  test('it is in no export, of a log that was tidied or not', async (t) => {
    const own = await Broker.start();
    t.after(() => own.stop());
    const topic = freshTopic();
    const secret = `secret-${'s3cr3t'.repeat(1000)}`;
    await publish(own.base, topic, 'before');
    const small = await publish(own.base, topic, 'tiny-secret');
    const large = await publish(own.base, topic, secret);
    const kept = await publish(own.base, topic, 'after');
    for (const { cursor } of [small, large]) {
      assert.equal((await request(`${own.base}/messages/${cursor}`, { method: 'DELETE' })).status, 204);
    }
    // An export of a copy that was not tidied, as of one that was, has neither.
    const copy = path.join(await emptyFolder(), 'log');
    t.after(() => rm(path.dirname(copy), { recursive: true, force: true }));
    await own.end('SIGKILL');
    await cp(own.data, copy, { recursive: true });
    await own.spawn();
    await own.end('SIGTERM');
    for (const data of [copy, own.data]) {
      const out = path.join(path.dirname(copy), `export-${path.basename(data)}.ndjson`);
      const exported = await run(['log', 'export', '--data', data, '--out', out]);
      assert.equal(exported.code, 0, exported.stderr);
      const lines = await readFile(out, 'utf8');
      assert.ok(!lines.includes('secret') && lines.includes(kept.cursor), lines);
      const check = await run(['log', 'check', '--data', data]);
      assert.equal(check.code, 0, `${check.stdout}${check.stderr}`);
    }
    await own.spawn();
  });

  test('what there is not, cannot be deleted', async () => {
    const { cursor } = await publish(broker.base, freshTopic(), 'x');
    const [epoch] = cursor.split('-');
    assertProblem(await drop(`${epoch}-0vvvvvvvvvv`), 404, 'message-not-found');
    assertProblem(await drop(`${epoch}-00000000000`), 404, 'message-not-found');
    assertProblem(await drop('nonsense'), 400, 'cursor-invalid');
    const options = await request(`${broker.base}/messages/${cursor}`, { method: 'OPTIONS' });
    assert.equal(options.headers.get('allow'), 'GET, HEAD, DELETE, OPTIONS');
  });

  test('by a WebSocket', async (t) => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'x');
    const socket = await LineSocket.open(t, broker.base, '/stream');
    assert.equal((await socket.ask({ kind: 'delete_message', cursor })).kind, 'ok');
    assert.equal((await socket.ask({ kind: 'delete_message', cursor })).code, 'message-gone');
    assert.equal((await socket.ask({ kind: 'delete_message' })).code, 'parameter-missing');
    assert.equal((await request(`${broker.base}/messages/${cursor}`)).status, 410);
  });

  test('of a topic that is kept in memory', async () => {
    const topic = freshTopic();
    await setOptions(broker.base, topic, { durability: 'memory' });
    const receipts = await publishBatch(broker.base, topic, numbers(3));
    assert.equal((await drop(receipts[1].cursor)).status, 204);
    const left = [receipts[0].cursor, receipts[2].cursor];
    assert.deepEqual(cursorsOf(await readAll(broker.base, `/topics/${topic}`)), left);
    assertProblem(await request(`${broker.base}/messages/${receipts[1].cursor}`), 410, 'message-gone');
  });
});

describe('a key is deleted', () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  const keyed = (topic, key, body) => publish(broker.base, topic, body, { 'content-type': 'text/plain', 'tailwire-key': key });
  const drop = (topic, key) => request(`${broker.base}/topics/${topic}?key=${key}`, { method: 'DELETE' });

  for (const transport of TRANSPORTS) {
    test(`listeners get a message that says so, and others do not find it: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      await compact(broker.base, topic);
      const other = await keyed(topic, 'other', 'stays');
      await keyed(topic, 'k', 'first');
      const where = { base: broker.base, path: `/topics/${topic}`, events: ['tailwire.deleted'] };
      const listener = await open(t, transport, where);
      const answer = await drop(topic, 'k');
      assert.equal(answer.status, 204, answer.text);
      const cursor = answer.headers.get('tailwire-cursor');
      const [deletion] = await listener.messages(1);
      assert.equal(deletion.cursor, cursor);
      const line = deletion.plain === undefined ? deletion : JSON.parse(deletion.plain);
      assert.deepEqual([line.key, line.deleted, 'data' in line], ['k', true, false]);
      const late = await open(t, transport, { ...where, after: 'earliest' });
      const found = await late.messages(2);
      assert.deepEqual(cursorsOf(found), [other.cursor, cursor]);
      // It can come back.
      const back = await keyed(topic, 'k', 'again');
      assert.deepEqual(cursorsOf(await listener.messages(1)), [back.cursor]);
      assert.deepEqual(cursorsOf(await readAll(broker.base, `/topics/${topic}`)), [other.cursor, back.cursor]);
    });
  }

  test('by itself it is an empty message, and no entry of a feed', async () => {
    const topic = freshTopic();
    await compact(broker.base, topic);
    await keyed(topic, 'k', 'first');
    const cursor = (await drop(topic, 'k')).headers.get('tailwire-cursor');
    const message = await request(`${broker.base}/messages/${cursor}`);
    assert.deepEqual([message.status, message.text], [200, '']);
    assert.deepEqual(
      ['tailwire-deleted', 'tailwire-key', 'tailwire-max-age'].map((name) => message.headers.get(name)),
      ['true', 'k', '86400'],
    );
    const feed = await request(`${broker.base}/topics/${topic}?format=jsonfeed`);
    assert.deepEqual([feed.status, JSON.parse(feed.text).items], [200, []]);
    const atom = await request(`${broker.base}/topics/${topic}?format=atom`);
    assert.ok(atom.status === 200 && !atom.text.includes('<entry>'), atom.text);
  });

  test('only of a topic that is compacted', async (t) => {
    const topic = freshTopic();
    const first = await keyed(topic, 'k', 'first');
    assertProblem(await drop(topic, 'k'), 409, 'topic-not-compacted');
    assertProblem(await drop(topic, ''), 400, 'key-invalid');
    assertProblem(await request(`${broker.base}/topics/${topic}?kee=k`, { method: 'DELETE' }), 400, 'parameter-invalid');
    await compact(broker.base, topic);
    const socket = await LineSocket.open(t, broker.base, '/stream');
    const ok = await socket.ask({ kind: 'delete', topic, key: 'k' });
    assert.match(ok.cursor, CURSOR);
    // What was there before the options is compacted bit by bit.
    await until(`${broker.base}/messages/${first.cursor}`, 410);
    assert.deepEqual(cursorsOf(await readAll(broker.base, `/topics/${topic}`)), [ok.cursor]);
  });
});

describe("a message's own lifetime", () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  test('it stands in the message, which goes when it is over, with a gap for a client that has not seen it', async () => {
    const topic = freshTopic();
    const url = `${broker.base}/topics/${topic}`;
    const head = await publish(broker.base, topic, 'stays');
    const short = await publish(broker.base, topic, 'goes', { 'content-type': 'text/plain', 'tailwire-max-age': '1' });
    const long = await request(`${url}?max_age=60`, { method: 'POST', body: 'later' });
    const page = await request(`${url}?after=${head.cursor}&limit=2`);
    assert.deepEqual(page.json.messages.map(({ max_age }) => max_age), [1, 60]);
    const before = await request(`${broker.base}/messages/${long.json.cursor}`);
    assert.match(before.headers.get('cache-control'), /^public, max-age=(60|5\d), immutable$/);
    assert.equal(before.headers.get('tailwire-max-age'), '60');
    await until(`${broker.base}/messages/${short.cursor}`, 410);
    const gap = assertProblem(await request(`${url}?after=${head.cursor}`), 410, 'gap');
    assert.deepEqual([gap.reason, gap.to], ['retention', short.cursor]);
    assert.equal((await request(`${url}?after=${short.cursor}`)).status, 200);
    assert.deepEqual(cursorsOf(await readAll(broker.base, `/topics/${topic}`)), [head.cursor, long.json.cursor]);
  });

  test('a page with such a message is cached no longer than that lives', async () => {
    const topic = freshTopic();
    const start = await publish(broker.base, topic, 'start');
    await request(`${broker.base}/topics/${topic}?max_age=100`, { method: 'POST', body: 'x' });
    await publishBatch(broker.base, topic, numbers(3));
    const page = (limit) => request(`${broker.base}/topics/${topic}?after=${start.cursor}&limit=${limit}`);
    assert.match((await page(2)).headers.get('cache-control'), /^public, max-age=(100|9\d), immutable$/);
  });

  test('lines of batches and of WebSockets have one too; and survive a crash', async (t) => {
    const topic = freshTopic();
    const lines = [{ topic, data: 1, max_age: 2 }, { topic, data: 2 }, { topic, data: 3, max_age: 1000 }];
    const posted = await request(`${broker.base}/stream`, {
      method: 'POST',
      body: lines.map((line) => JSON.stringify(line)).join('\n'),
      headers: { 'content-type': 'application/x-ndjson' },
    });
    const receipts = posted.json.receipts;
    const socket = await LineSocket.open(t, broker.base, '/stream');
    const own = await socket.ask({ kind: 'publish', topic, data: 4, max_age: 2 });
    assert.equal(own.kind, 'ok');
    await broker.crash();
    await until(`${broker.base}/messages/${receipts[0].cursor}`, 410);
    await until(`${broker.base}/messages/${own.cursor}`, 410);
    const left = await readAll(broker.base, `/topics/${topic}`);
    assert.deepEqual(left.map(({ data, max_age }) => [data, max_age]), [[2, undefined], [3, 1000]]);
  });

  test('a bad one is refused', async (t) => {
    const topic = freshTopic();
    for (const value of ['0', '-1', '1.5', 'x', '']) {
      const answer = await request(`${broker.base}/topics/${topic}?max_age=${value}`, { method: 'POST', body: 'x' });
      assert.equal(assertProblem(answer, 400, 'parameter-invalid').parameter, 'max_age', value);
    }
    const both = await request(`${broker.base}/topics/${topic}?max_age=5`, {
      method: 'POST',
      body: 'x',
      headers: { 'tailwire-max-age': '5' },
    });
    assertProblem(both, 400, 'parameter-invalid');
    const socket = await LineSocket.open(t, broker.base, '/stream');
    const refused = await socket.ask({ kind: 'publish', topic, data: 1, max_age: '5' });
    assert.equal(refused.parameter, 'max_age');
  });

  test('messages in memory have one', async () => {
    const topic = freshTopic();
    await setOptions(broker.base, topic, { durability: 'memory' });
    const first = await publish(broker.base, topic, 'stays');
    const second = await publish(broker.base, topic, 'goes', { 'content-type': 'text/plain', 'tailwire-max-age': '1' });
    await until(`${broker.base}/messages/${second.cursor}`, 410);
    assert.equal(textOf((await readAll(broker.base, `/topics/${topic}`))[0]), 'stays');
    assert.equal((await request(`${broker.base}/messages/${first.cursor}`)).status, 200);
  });
});
