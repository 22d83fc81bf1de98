// How a broker ends: what was accepted is finished, and everybody is told when to come back.

import { once } from 'node:events';
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { freshTopic, publish, readAll, request } from './support/http.mjs';
import { Raw } from './support/raw.mjs';
import { TRANSPORTS, open } from './support/transports.mjs';

const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const transport = (name) => TRANSPORTS.find((one) => one.name === name);

async function start(t) {
  const broker = await Broker.start();
  t.after(() => broker.stop());
  return broker;
}

for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT']) {
  test(`${signal}: each stream gets a bye with a time of its own, and the broker ends quickly and well`, async (t) => {
    const broker = await start(t);
    const topic = freshTopic();
    const streams = ['websocket', 'sse', 'sse-envelope', 'ndjson'].flatMap((name) => Array(10).fill(transport(name)));
    const where = { base: broker.base, path: `/topics/${topic}`, after: 'latest' };
    const listeners = await Promise.all(streams.map((one) => open(t, one, where)));
    const last = await publish(broker.base, topic, 'last');
    const ended = broker.end(signal);
    const times = [];
    for (const listener of listeners) {
      assert.equal((await listener.until('message')).cursor, last.cursor);
      const bye = await listener.until('bye');
      assert.equal(bye.reason, 'drain');
      assert.ok(Number.isInteger(bye.retry_after_ms) && bye.retry_after_ms > 0, `${bye.retry_after_ms}`);
      times.push(bye.retry_after_ms);
      assert.equal(await listener.next(), undefined, 'something after the bye');
    }
    assert.ok(new Set(times).size > times.length / 2, `they come back together: ${times}`);
    const { code, signal: killed, ms } = await ended;
    assert.deepEqual([code, killed], [0, null]);
    assert.ok(ms < 3000, `it took ${ms} ms`);
  });
}

test('a WebSocket is closed with 1012 or 1013', async (t) => {
  const broker = await start(t);
  const { LineSocket } = await import('./support/line-socket.mjs');
  const socket = await LineSocket.open(t, broker.base);
  const ended = broker.end('SIGTERM');
  assert.ok([1012, 1013].includes((await socket.closed).code), `${(await socket.closed).code}`);
  await ended;
});

test('an SSE bye carries the same time as retry, for clients that read only that', async (t) => {
  const broker = await start(t);
  const raw = await Raw.open(t, broker.port);
  await raw.send('GET /topics/a?format=sse HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await raw.until(/caught_up"/);
  await broker.end('SIGTERM');
  const text = await raw.end();
  assert.match(text, /retry: (\d+)\nevent: tailwire\.bye\ndata: \{"kind":"bye","retry_after_ms":\1,"reason":"drain"\}\n\n/);
  assert.match(text, /\r\n0\r\n\r\n$/, 'the body has no end');
});

test('long-polls are answered', async (t) => {
  const broker = await start(t);
  const topic = freshTopic();
  const { cursor } = await publish(broker.base, topic, 'x');
  const polls = await Promise.all(
    numbers(20).map(async () => {
      const raw = await Raw.open(t, broker.port);
      await raw.send(`GET /topics/${topic}?after=${cursor}&wait=50 HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      return raw;
    }),
  );
  // Answered after the polls have begun to wait: requests of other connections overtake none of them for long.
  for (const _ of numbers(20)) await request(`${broker.base}/healthz`);
  const { code, ms } = await broker.end('SIGTERM');
  assert.equal(code, 0);
  assert.ok(ms < 3000, `it took ${ms} ms`);
  for (const poll of polls) {
    const text = await poll.end();
    assert.match(text, /^HTTP\/1\.1 (202|503) /);
    assert.match(text, /\r\nretry-after: \d+\r\n/i);
    assert.match(text, /"retry_after_ms":\d+/);
  }
});

test('publishes that were accepted are stored, the others are refused as such', async (t) => {
  const broker = await start(t);
  const topic = freshTopic();
  const acknowledged = [];
  let refused = 0;
  let isDown = false;
  const publisher = async () => {
    while (!isDown) {
      const answer = await request(`${broker.base}/topics/${topic}`, { method: 'POST', body: 'x' }).catch(() => undefined);
      if (!answer) return;
      if (answer.status === 201) acknowledged.push(answer.json.cursor);
      else {
        assert.deepEqual([answer.status, answer.json.code], [503, 'draining']);
        assert.match(answer.headers.get('retry-after'), /^\d+$/);
        refused += 1;
      }
    }
  };
  const publishers = numbers(8).map(publisher);
  while (acknowledged.length < 100) await request(`${broker.base}/healthz`);
  const { code } = await broker.end('SIGTERM');
  isDown = true;
  await Promise.all(publishers);
  assert.equal(code, 0);
  await broker.spawn();
  const stored = (await readAll(broker.base, `/topics/${topic}`)).map(({ cursor }) => cursor);
  const kept = new Set(stored);
  assert.deepEqual(acknowledged.filter((cursor) => !kept.has(cursor)), []);
  t.diagnostic(`${acknowledged.length} acknowledged, ${refused} refused, ${stored.length} stored`);
});

const KEEPERS = [
  { name: 'idle between two requests', bytes: 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n', mayTake: 3000 },
  { name: 'in the middle of a head', bytes: 'GET /healthz HTTP/1.1\r\nHo', mayTake: 5000 },
  // The broker gives those that read slowly a while to read the rest.
  { name: 'a stream that nobody reads', bytes: 'GET /topics/a?format=sse HTTP/1.1\r\nHost: localhost\r\n\r\n', mayTake: 15_000 },
];
for (const { name, bytes, mayTake } of KEEPERS) {
  test(`a connection that is ${name} keeps nobody waiting`, async (t) => {
    const broker = await start(t);
    const keeper = await Raw.open(t, broker.port, { paused: true });
    await keeper.send(bytes);
    for (const _ of numbers(12)) await publish(broker.base, 'a', 'x'.repeat(1 << 20));
    const { code, ms } = await broker.end('SIGTERM');
    assert.equal(code, 0);
    assert.ok(ms < mayTake, `it took ${ms} ms`);
  });
}

test('a second signal ends it at once', async (t) => {
  const broker = await start(t);
  const half = await Raw.open(t, broker.port);
  await half.send('POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhi');
  await request(`${broker.base}/healthz`);
  broker.child.kill('SIGTERM');
  // Two signals that come before the first is taken are one.
  while (!broker.stderr.includes('draining')) await once(broker.child.stderr, 'data');
  const { ms } = await broker.end('SIGTERM');
  assert.ok(ms < 3000, `it took ${ms} ms`);
});
