// One cursor for all transports: what one of them gave, any other takes, also after the broker was away.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { CURSOR, freshTopic, publish, publishBatch, readAll, request } from './support/http.mjs';
import { TRANSPORTS, open, textOf } from './support/transports.mjs';

const cursorsOf = (messages) => messages.map((message) => message.cursor);
const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const PAIRS = TRANSPORTS.flatMap((from) => TRANSPORTS.map((to) => ({ from, to, name: `${from.name} to ${to.name}` })));

/** Reads some messages and gives the cursor that goes on after them. */
async function readSome(t, transport, where, count) {
  const listener = await open(t, transport, where);
  await listener.messages(count);
  listener.close();
  return listener.cursor;
}

describe('a cursor goes from one transport to another', () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  for (const { from, to, name } of PAIRS) {
    test(name, async (t) => {
      const { base } = broker;
      const topic = freshTopic();
      const path = `/topics/${topic}`;
      const receipts = await publishBatch(base, topic, numbers(8));
      const cursor = await readSome(t, from, { base, path, after: 'earliest' }, 3);
      assert.equal(cursor, receipts[2].cursor);
      await publish(base, freshTopic(), 'elsewhere');
      receipts.push(...(await publishBatch(base, topic, numbers(2))));
      const listener = await open(t, to, { base, path, after: cursor });
      const stored = await listener.messages(7);
      receipts.push(await publish(base, topic, 'live'));
      const live = await listener.messages(1);
      assert.deepEqual(cursorsOf([...stored, ...live]), cursorsOf(receipts.slice(3)));
    });
  }

  test('a client that changes the transport at every message gets each once', async (t) => {
    const { base } = broker;
    const root = freshTopic();
    const path = `/topics/${root}/**`;
    const receipts = [];
    for (const n of numbers(40)) receipts.push(await publish(base, `${root}/${n % 3}`, `${n}`));
    let cursor = 'earliest';
    for (const n of numbers(40)) {
      const listener = await open(t, TRANSPORTS[(n * 5 + Math.floor(n / 6)) % TRANSPORTS.length], { base, path, after: cursor });
      assert.deepEqual((await listener.messages(1)).map(textOf), [`${n}`]);
      cursor = listener.cursor;
      listener.close();
    }
    assert.equal(cursor, receipts.at(-1).cursor);
  });

  test('a cursor of one topic is a place in all of them', async (t) => {
    const { base } = broker;
    const [a, b] = [freshTopic(), freshTopic()];
    await publish(base, b, 'before');
    const { cursor } = await publish(base, a, 'here');
    const next = await publish(base, b, 'after');
    for (const transport of TRANSPORTS) {
      const listener = await open(t, transport, { base, path: `/topics/${b}`, after: cursor });
      assert.deepEqual(cursorsOf(await listener.messages(1)), [next.cursor], transport.name);
    }
  });

  for (const transport of TRANSPORTS) {
    test(`the starting cursor and that of caught_up resume: ${transport.name}`, async (t) => {
      const { base } = broker;
      const topic = freshTopic();
      const path = `/topics/${topic}`;
      await publishBatch(base, topic, numbers(3));
      const latest = await open(t, transport, { base, path, after: 'latest' });
      const starting = latest.cursor;
      assert.match(starting, CURSOR);
      const reading = await open(t, transport, { base, path, last: 2 });
      const caughtUp = (await reading.until('caught_up')).cursor;
      const last = await open(t, transport, { base, path, last: 2 });
      assert.match(last.cursor, CURSOR);
      const next = await publish(base, topic, 'next');
      for (const to of TRANSPORTS) {
        for (const cursor of [starting, caughtUp]) {
          const listener = await open(t, to, { base, path, after: cursor });
          assert.deepEqual(cursorsOf(await listener.messages(1)), [next.cursor], to.name);
        }
      }
    });
  }

  test('an idle stream is given cursors that pass the messages of other topics, and they resume', async (t) => {
    const { base } = broker;
    const topic = freshTopic();
    const path = `/topics/${topic}`;
    const streams = TRANSPORTS.filter(({ name }) => name === 'websocket' || name === 'ndjson');
    const idle = await Promise.all(streams.map((stream) => open(t, stream, { base, path, after: 'latest' })));
    const elsewhere = await publish(base, freshTopic(), 'elsewhere');
    const passed = [];
    for (const listener of idle) {
      let heartbeat;
      do heartbeat = await listener.until('heartbeat');
      while (heartbeat.cursor < elsewhere.cursor);
      passed.push(heartbeat.cursor);
    }
    const resumed = await Promise.all(passed.map((cursor, index) => open(t, streams[1 - index], { base, path, after: cursor })));
    const next = await publish(base, topic, 'next');
    for (const listener of [...idle, ...resumed]) {
      assert.deepEqual(cursorsOf(await listener.messages(1)), [next.cursor]);
    }
  });
});

describe('cursors outlive the broker', () => {
  for (const how of ['restart', 'crash']) {
    test(`every transport takes every transport's cursor after a ${how}`, async (t) => {
      const broker = await Broker.start();
      t.after(() => broker.stop());
      const topic = freshTopic();
      const path = `/topics/${topic}`;
      const receipts = await publishBatch(broker.base, topic, numbers(10));
      const cursors = [];
      for (const from of TRANSPORTS) {
        cursors.push(await readSome(t, from, { base: broker.base, path, after: 'earliest' }, 4));
      }
      await broker[how]();
      receipts.push(...(await publishBatch(broker.base, topic, numbers(2))));
      const expected = cursorsOf(receipts);
      assert.deepEqual(expected, [...expected].sort(), 'the order of strings is not that of the log');
      assert.ok(expected[10].slice(0, 8) > expected[9].slice(0, 8), 'the epoch is not a new one');
      for (const cursor of cursors) {
        for (const to of TRANSPORTS) {
          const listener = await open(t, to, { base: broker.base, path, after: cursor });
          assert.deepEqual(cursorsOf(await listener.messages(8)), expected.slice(4), to.name);
          listener.close();
        }
      }
    });
  }

  test('messages keep their cursors, and the order of strings is that of the log, over many openings', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    const receipts = [];
    for (const how of ['restart', 'crash', 'crash', 'restart', 'restart', 'crash']) {
      for (const n of numbers(3)) receipts.push(await publish(broker.base, topic, `${how} ${n}`));
      await broker[how]();
      const stored = await readAll(broker.base, `/topics/${topic}`);
      assert.deepEqual(stored.map(({ cursor, time }) => ({ cursor, time })), receipts.map(({ cursor, time }) => ({ cursor, time })));
    }
    const cursors = cursorsOf(receipts);
    assert.equal(new Set(cursors).size, cursors.length);
    assert.deepEqual(cursors, [...cursors].sort());
  });

  test('a crash in the middle of many publishes takes nothing that was acknowledged or delivered', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const root = freshTopic();
    const path = `/topics/${root}/*`;
    for (const round of numbers(3)) {
      const acknowledged = [];
      const [websocket] = TRANSPORTS;
      const listener = await open(t, websocket, { base: broker.base, path, after: 'latest' });
      let isDown = false;
      const publisher = async (name) => {
        for (let n = 0; !isDown; n += 1) {
          const sent = request(`${broker.base}/topics/${root}/${name}`, { method: 'POST', body: `${n}` });
          const answer = await sent.catch(() => undefined);
          if (!answer) return;
          assert.equal(answer.status, 201, answer.text);
          acknowledged.push(answer.json.cursor);
        }
      };
      const publishers = numbers(8).map((n) => publisher(`${round}-${n}`));
      const heard = cursorsOf(await listener.messages(200));
      const down = broker.crash();
      await broker.ended.then(() => (isDown = true));
      await Promise.all([down, ...publishers]);
      for await (const item of listener) if (item.kind === 'message') heard.push(item.cursor);
      const stored = new Set(cursorsOf(await readAll(broker.base, path)));
      assert.deepEqual(acknowledged.filter((cursor) => !stored.has(cursor)), [], 'acknowledged, and lost');
      assert.deepEqual(heard.filter((cursor) => !stored.has(cursor)), [], 'delivered, and lost');
      // The listener goes on elsewhere with what it holds, and is told of no gap: it has lost nothing.
      const rest = [...stored].filter((cursor) => cursor > heard.at(-1));
      const next = await publish(broker.base, `${root}/next`, 'next');
      for (const transport of TRANSPORTS) {
        const resumed = await open(t, transport, { base: broker.base, path, after: listener.cursor });
        assert.deepEqual(cursorsOf(await resumed.messages(rest.length + 1)), [...rest, next.cursor], transport.name);
      }
    }
  });
});
