// Nothing lost is hidden: what a cursor has not seen and never will is told, on every transport.

import assert from 'node:assert/strict';
import { cp, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Broker, emptyFolder } from './support/broker.mjs';
import { assertProblem, freshTopic, nextLink, publish, publishBatch, remove, request } from './support/http.mjs';
import { TRANSPORTS, open, textOf } from './support/transports.mjs';

const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const cursorsOf = (messages) => messages.map(({ cursor }) => cursor);

const nextEvent = (listener) => listener.until('message', 'gap');

/** A cursor of a lost state is told so, and gets just what came after the place where that left the log. */
async function assertRewound(t, transport, where, { after, from }, messages) {
  const listener = await open(t, transport, { ...where, after });
  const gap = await nextEvent(listener);
  assert.deepEqual([gap.kind, gap.reason, gap.from, gap.to], ['gap', 'rewound', from, after], transport.name);
  assert.deepEqual(cursorsOf(await listener.messages(messages.length)), cursorsOf(messages), transport.name);
  listener.close();
}

/** The gap, without the tag that a WebSocket gives it. */
const plain = ({ sub, ...gap }) => gap;

describe('deleted messages', () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  for (const transport of TRANSPORTS) {
    const listen = (t, where) => open(t, transport, { base: broker.base, ...where });

    test(`a cursor before them has a gap, then all that came later: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      const receipts = await publishBatch(broker.base, topic, numbers(5));
      await remove(broker.base, topic);
      const rest = await publishBatch(broker.base, topic, numbers(3));
      const listener = await listen(t, { path: `/topics/${topic}`, after: receipts[1].cursor });
      const gap = await nextEvent(listener);
      assert.deepEqual(plain(gap), { kind: 'gap', from: receipts[1].cursor, to: receipts[4].cursor, reason: 'deleted' });
      assert.deepEqual(cursorsOf(await listener.messages(3)), cursorsOf(rest));
      const live = await publish(broker.base, topic, 'live');
      assert.deepEqual(cursorsOf(await listener.messages(1)), [live.cursor]);
    });

    test(`a cursor at the last of them has none: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      const receipts = await publishBatch(broker.base, topic, numbers(5));
      await remove(broker.base, topic);
      const next = await publish(broker.base, topic, 'next');
      const listener = await listen(t, { path: `/topics/${topic}`, after: receipts[4].cursor });
      assert.deepEqual(cursorsOf(await listener.messages(1)), [next.cursor]);
    });

    test(`the gap is told where nothing is left: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      const receipts = await publishBatch(broker.base, topic, numbers(3));
      await remove(broker.base, topic);
      const listener = await listen(t, { path: `/topics/${topic}`, after: receipts[0].cursor });
      assert.equal((await nextEvent(listener)).reason, 'deleted');
      const next = await publish(broker.base, topic, 'next');
      assert.deepEqual(cursorsOf(await listener.messages(1)), [next.cursor]);
    });

    test(`earliest, latest and last=n have none: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      await publishBatch(broker.base, topic, numbers(5));
      await remove(broker.base, topic);
      const rest = await publishBatch(broker.base, topic, numbers(2));
      for (const where of [{ after: 'earliest' }, { last: 10 }]) {
        const listener = await listen(t, { path: `/topics/${topic}`, ...where });
        assert.deepEqual(cursorsOf(await listener.messages(2)), cursorsOf(rest));
      }
      const latest = await listen(t, { path: `/topics/${topic}`, after: 'latest' });
      const next = await publish(broker.base, topic, 'next');
      assert.deepEqual(cursorsOf(await latest.messages(1)), [next.cursor]);
    });

    test(`what began at earliest has lost nothing to what was deleted before: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      await publishBatch(broker.base, topic, numbers(3));
      await remove(broker.base, topic);
      const listener = await listen(t, { path: `/topics/${topic}`, after: 'earliest' });
      await listener.until('caught_up');
      const resumed = await listen(t, { path: `/topics/${topic}`, after: listener.cursor });
      const next = await publish(broker.base, topic, 'next');
      for (const one of [listener, resumed]) assert.deepEqual(cursorsOf(await one.messages(1)), [next.cursor]);
    });

    test(`a pattern asks all its topics; another topic knows nothing of it: ${transport.name}`, async (t) => {
      const root = freshTopic();
      const first = await publish(broker.base, `${root}/kept`, 'first');
      await publishBatch(broker.base, `${root}/deleted`, numbers(3));
      const kept = await publish(broker.base, `${root}/kept`, 'second');
      await remove(broker.base, `${root}/deleted`);
      const paths = [`/topics/${root}/*`, `/topics/${root}/**`, `/stream?topic=${root}/kept&topic=${root}/deleted`];
      for (const where of paths) {
        const listener = await listen(t, { path: where, after: first.cursor });
        const gap = await nextEvent(listener);
        assert.deepEqual([gap.kind, gap.from, gap.reason], ['gap', first.cursor, 'deleted']);
        assert.deepEqual(cursorsOf(await listener.messages(1)), [kept.cursor]);
      }
      const other = await listen(t, { path: `/topics/${root}/kept`, after: first.cursor });
      assert.deepEqual(cursorsOf(await other.messages(1)), [kept.cursor]);
    });

    test(`a cursor of an unknown epoch begins with the oldest that is kept: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      const receipts = await publishBatch(broker.base, topic, numbers(3));
      for (const cursor of ['00000001-00000000001', 'vvvvvvvv-00000000001', 'vvvvvvvv-vvvvvvvvvvv']) {
        const listener = await listen(t, { path: `/topics/${topic}`, after: cursor });
        const gap = await nextEvent(listener);
        assert.deepEqual([gap.kind, gap.reason], ['gap', 'epoch'], cursor);
        assert.deepEqual(cursorsOf(await listener.messages(3)), cursorsOf(receipts), cursor);
      }
    });

    test(`a cursor beyond the newest is told so, and hears what comes: ${transport.name}`, async (t) => {
      const topic = freshTopic();
      const { cursor } = await publish(broker.base, topic, 'x');
      const beyond = `${cursor.slice(0, 8)}-vvvvvvvvvvv`;
      const listener = await listen(t, { path: `/topics/${topic}`, after: beyond });
      const gap = await nextEvent(listener);
      assert.equal(gap.kind, 'gap');
      assert.match(gap.reason, /^(rewound|unclean)$/);
      const next = await publish(broker.base, topic, 'next');
      assert.deepEqual(cursorsOf(await listener.messages(1)), [next.cursor]);
    });
  }

  test('410 says from, to, reason and where to go on; "I know" is kept until the cursor has passed', async () => {
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(5));
    await remove(broker.base, topic);
    const rest = await publishBatch(broker.base, topic, numbers(3));
    const url = `${broker.base}/topics/${topic}?limit=2&after=${receipts[1].cursor}`;
    const gone = await request(url);
    const problem = assertProblem(gone, 410, 'gap');
    assert.deepEqual([problem.from, problem.to, problem.reason], [receipts[1].cursor, receipts[4].cursor, 'deleted']);
    const next = new URL(nextLink(gone, url));
    assert.deepEqual([next.searchParams.get('after'), next.searchParams.get('gap'), next.searchParams.get('limit')], [problem.from, problem.to, '2']);
    const page = await request(next);
    assert.deepEqual([page.status, cursorsOf(page.json.messages)], [200, cursorsOf(rest.slice(0, 2))]);
    const second = new URL(nextLink(page, next));
    assert.equal(second.searchParams.get('gap'), null, 'the cursor has passed it');
    assert.deepEqual(cursorsOf((await request(second)).json.messages), cursorsOf(rest.slice(2)));
  });

  test('"I know" is kept by the links of empty pages', async () => {
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(5));
    await remove(broker.base, topic);
    let url = `${broker.base}/topics/${topic}?after=${receipts[1].cursor}`;
    url = nextLink(await request(url), url);
    for (let n = 0; n < 3; n += 1) {
      const empty = await request(url);
      assert.equal(empty.status, 202, empty.text);
      url = nextLink(empty, url);
      assert.equal(new URL(url).searchParams.get('gap'), receipts[4].cursor);
    }
    const { cursor } = await publish(broker.base, topic, 'next');
    assert.deepEqual(cursorsOf((await request(url)).json.messages), [cursor]);
    // What is lost later is another gap.
    await remove(broker.base, topic);
    assertProblem(await request(url), 410, 'gap');
  });

  test('a listener that is live when messages are deleted has seen them: it is told of no gap', async (t) => {
    const topic = freshTopic();
    const where = { base: broker.base, path: `/topics/${topic}`, after: 'latest' };
    const listeners = await Promise.all(TRANSPORTS.map((transport) => open(t, transport, where)));
    await publish(broker.base, topic, 'seen');
    for (const listener of listeners) assert.deepEqual((await listener.messages(1)).map(textOf), ['seen']);
    await remove(broker.base, topic);
    await publish(broker.base, topic, 'next');
    for (const listener of listeners) assert.deepEqual((await listener.messages(1)).map(textOf), ['next']);
  });

  test('a deletion is remembered after a restart and after a crash', async (t) => {
    const own = await Broker.start();
    t.after(() => own.stop());
    const topic = freshTopic();
    const receipts = await publishBatch(own.base, topic, numbers(5));
    await remove(own.base, topic);
    for (const how of ['restart', 'crash']) {
      await own[how]();
      const problem = assertProblem(await request(`${own.base}/topics/${topic}?after=${receipts[0].cursor}`), 410, 'gap');
      assert.deepEqual([problem.from, problem.to, problem.reason], [receipts[0].cursor, receipts[4].cursor, 'deleted']);
    }
  });
});

describe('logs that are not what they were', () => {
  test('a wiped data folder: every old cursor is of an unknown epoch', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    const [old] = await publishBatch(broker.base, topic, numbers(3));
    await broker.end('SIGTERM');
    for (const name of await readdir(broker.data)) await rm(path.join(broker.data, name), { recursive: true });
    await broker.spawn();
    const fresh = await publishBatch(broker.base, topic, numbers(2));
    assert.ok(fresh[0].cursor > old.cursor, 'a cursor was used twice, or goes backward');
    for (const transport of TRANSPORTS) {
      const listener = await open(t, transport, { base: broker.base, path: `/topics/${topic}`, after: old.cursor });
      assert.equal((await nextEvent(listener)).reason, 'epoch', transport.name);
      assert.deepEqual(cursorsOf(await listener.messages(2)), cursorsOf(fresh), transport.name);
    }
  });

  test('a restored backup: cursors of what came after it are told so, and none is used twice', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    const kept = await publishBatch(broker.base, topic, numbers(3));
    await broker.end('SIGTERM');
    const backup = await emptyFolder();
    t.after(() => rm(backup, { recursive: true, force: true }));
    await cp(broker.data, backup, { recursive: true });
    await broker.spawn();
    const lost = await publishBatch(broker.base, topic, numbers(4));
    await broker.end('SIGTERM');
    await rm(broker.data, { recursive: true });
    await cp(backup, broker.data, { recursive: true });
    await broker.spawn();
    const fresh = await publishBatch(broker.base, topic, numbers(2));
    assert.ok(fresh[0].cursor > lost[3].cursor, 'a cursor was used twice, or goes backward');
    for (const transport of TRANSPORTS) {
      const where = { base: broker.base, path: `/topics/${topic}` };
      const before = await open(t, transport, { ...where, after: kept[1].cursor });
      assert.deepEqual(cursorsOf(await before.messages(3)), cursorsOf([kept[2], ...fresh]), transport.name);
      for (const { cursor } of lost) await assertRewound(t, transport, where, { after: cursor, from: kept[2].cursor }, fresh);
    }
  });

  test('a restore of the restore, and of an older backup: each lost state goes on where it left the log', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    const backups = [];
    const backUp = async () => {
      await broker.end('SIGTERM');
      backups.push(await emptyFolder());
      await cp(broker.data, backups.at(-1), { recursive: true });
      await broker.spawn();
    };
    const restore = async (backup) => {
      await broker.end('SIGTERM');
      await rm(broker.data, { recursive: true });
      await cp(backup, broker.data, { recursive: true });
      await broker.spawn();
    };
    t.after(() => Promise.all(backups.map((backup) => rm(backup, { recursive: true, force: true }))));
    const write = () => publishBatch(broker.base, topic, numbers(3));
    const everything = [];
    const first = await write();
    await backUp();
    const second = await write();
    await backUp();
    const lost = [await write()];
    for (const _ of numbers(2)) {
      await restore(backups[1]);
      lost.push(await write());
    }
    // Opened again, so that the epochs of the lost states lie between listed ones.
    await broker.restart();
    const last = await write();
    const rest = [...lost.pop(), ...last];
    everything.push(...first, ...second, ...lost.flat(), ...rest);
    assert.equal(new Set(cursorsOf(everything)).size, everything.length, 'a cursor was used twice');
    for (const transport of TRANSPORTS) {
      const where = { base: broker.base, path: `/topics/${topic}` };
      for (const { cursor } of lost.flat()) await assertRewound(t, transport, where, { after: cursor, from: second[2].cursor }, rest);
    }
    await restore(backups[0]);
    const fresh = await write();
    for (const transport of TRANSPORTS) {
      const where = { base: broker.base, path: `/topics/${topic}` };
      for (const { cursor } of [...second, ...lost[0], ...rest]) {
        await assertRewound(t, transport, where, { after: cursor, from: first[2].cursor }, fresh);
      }
    }
  });

  test('a fork: two copies that are both written tell each other\'s clients so, and go on where they parted', async (t) => {
    const one = await Broker.start();
    t.after(() => one.stop());
    const topic = freshTopic();
    const shared = await publishBatch(one.base, topic, numbers(3));
    await one.end('SIGTERM');
    const copy = await emptyFolder();
    t.after(() => rm(copy, { recursive: true, force: true }));
    await cp(one.data, copy, { recursive: true });
    await one.spawn();
    const other = await Broker.start({ data: copy });
    t.after(() => other.stop());
    const ones = await publishBatch(one.base, topic, numbers(3));
    const others = await publishBatch(other.base, topic, numbers(4));
    for (const transport of TRANSPORTS) {
      const path = `/topics/${topic}`;
      const from = shared[2].cursor;
      await assertRewound(t, transport, { base: other.base, path }, { after: ones[1].cursor, from }, others);
      await assertRewound(t, transport, { base: one.base, path }, { after: others[1].cursor, from }, ones);
    }
  });
});
