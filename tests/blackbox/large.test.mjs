// Messages that are larger than a client takes: they come as their metadata with a reference, on every transport, and what
// follows them comes too.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { WebSocket } from 'ws';

import { Broker } from './support/broker.mjs';
import { assertProblem, freshTopic, nextLink, publish, publishBatch, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { Listener } from './support/listener.mjs';
import { TRANSPORTS, open, textOf } from './support/transports.mjs';

const MAX_BYTES = 32_768;
const SMALL = 'x'.repeat(1000);
/** Larger than the bound by its body; and only as a transport writes it, with each character escaped. */
const LARGE = ['y'.repeat(200_000), '"'.repeat(20_000)];

async function start(t) {
  const broker = await Broker.start();
  t.after(() => broker.stop());
  return broker;
}

/** Publishes one after the other. Gives the receipts. */
async function publishAll(broker, topic, bodies) {
  const receipts = [];
  for (const body of bodies) receipts.push(await publish(broker.base, topic, body));
  return receipts;
}

/** The message that a reference leads to, from where it was read. */
async function follow({ href, cursor }, url) {
  assert.ok(!/^([a-z]+:|\/)/.test(href), `${href} is not relative`);
  const found = await request(new URL(href, url).href.replace(/^ws/, 'http'));
  assert.deepEqual([found.status, found.headers.get('tailwire-cursor')], [200, cursor]);
  return found.text;
}

for (const transport of TRANSPORTS) {
  test(`${transport.name}: what is too large is a reference, stored or live, and reading goes on`, async (t) => {
    const broker = await start(t);
    const topic = freshTopic('deep/a');
    const bodies = [SMALL, ...LARGE, SMALL];
    const stored = await publishAll(broker, topic, bodies);
    const path = `/topics/${topic}`;
    const query = { max_bytes: MAX_BYTES };
    const where = { base: broker.base, path, after: 'earliest', query, events: ['tailwire.omitted'] };
    const bounded = await open(t, transport, where);
    const any = await open(t, transport, { ...where, query: {} });
    const [got, whole] = [await bounded.messages(bodies.length), await any.messages(bodies.length)];
    await bounded.until('caught_up');
    await any.until('caught_up');
    const live = await publishAll(broker, topic, bodies);
    got.push(...(await bounded.messages(bodies.length)));
    whole.push(...(await any.messages(bodies.length)));
    const sent = [...stored, ...live].map(({ cursor }, n) => [cursor, bodies[n % bodies.length]]);
    assert.deepEqual(whole.map((message) => [message.cursor, textOf(message)]), sent, 'no bound, no reference');
    assert.deepEqual(got.map(({ cursor }) => cursor), sent.map(([cursor]) => cursor), 'each in its place');
    for (const [n, message] of got.entries()) {
      const [cursor, body] = sent[n];
      // As plain text in SSE nothing is escaped.
      const isWhole = body === SMALL || (transport.name === 'sse' && body === LARGE[1]);
      if (isWhole) assert.equal(textOf(message), body);
      else if (transport.name === 'sse') {
        assert.equal(message.event, 'tailwire.omitted', 'a listener to messages must not take it for one');
        const { omitted, size, href } = JSON.parse(message.plain);
        assert.deepEqual([omitted, size, await follow({ href, cursor }, broker.base + path)], [true, body.length, body]);
      } else {
        const { omitted, size, data } = message;
        assert.deepEqual([omitted, size, data, message.topic, message.type], [true, body.length, undefined, topic, 'text/plain']);
        assert.equal(await follow(message, broker.base + path), body);
      }
    }
  });
}

test('a reference leads from any URL to the message: a topic, a pattern, a set, a WebSocket at any of them', async (t) => {
  const broker = await start(t);
  const topic = freshTopic('a b/ž');
  await publish(broker.base, encodeURI(topic), LARGE[0]);
  const name = encodeURIComponent(topic);
  const urls = [`/topics/${encodeURI(topic)}?`, '/topics/**?', '/topics/a%20b/**?', `/stream?topic=${name}&`, '/stream?topic=**&'];
  for (const url of urls.map((url) => `${broker.base}${url}after=earliest&max_bytes=${MAX_BYTES}`)) {
    const page = await request(url);
    assert.equal(await follow(page.json.messages[0], url), LARGE[0], url);
    const socket = new WebSocket(url.replace('http', 'ws'), 'tailwire.v1');
    t.after(() => socket.terminate());
    const lines = new Listener();
    socket.on('message', (data) => lines.push(JSON.parse(data)));
    const line = await lines.until('message');
    assert.equal(await follow(line, url.replace('http', 'ws')), LARGE[0], url);
  }
  const long = await request(`${broker.base}/stream`, { method: 'QUERY', body: new URLSearchParams({ topic, max_bytes: MAX_BYTES }) });
  assert.equal(await follow(long.json.messages[0], `${broker.base}/stream`), LARGE[0]);
});

test('no line is longer than a bound, tagged or not, whatever the sizes around it', async (t) => {
  const broker = await start(t);
  const topic = freshTopic();
  // `max_bytes` less what stands around a message is where it turns; every size near it, and the id as long as can be.
  const sizes = Array.from({ length: 200 }, (_, n) => MAX_BYTES - 600 + n * 4);
  await publishBatch(broker.base, topic, sizes.map((size) => 'z'.repeat(size)));
  const socket = new WebSocket(`${broker.base.replace('http', 'ws')}/stream`, 'tailwire.v1', { maxPayload: MAX_BYTES });
  t.after(() => socket.terminate());
  const lines = new Listener();
  socket.on('message', (data) => lines.push(JSON.parse(data)));
  socket.on('error', (error) => lines.end(error));
  await lines.until('welcome');
  socket.send(JSON.stringify({ kind: 'subscribe', id: 'i'.repeat(126), topic, after: 'earliest', max_bytes: MAX_BYTES }));
  const got = await lines.messages(sizes.length);
  assert.equal((await lines.until('caught_up')).sub.length, 126);
  const turn = got.findIndex(({ omitted }) => omitted);
  assert.ok(turn > 50 && got.slice(turn).every(({ omitted }) => omitted), `they turn at ${turn}`);
  assert.ok(sizes[turn] > MAX_BYTES - 500, `${sizes[turn]} would have had room`);
  await publishBatch(broker.base, topic, sizes.map((size) => 'z'.repeat(size)));
  await lines.messages(sizes.length);
  // A page is a line as well: it ends before it is too long, and goes on.
  let after = 'earliest';
  let seen = 0;
  for (let id = 1; ; id++) {
    socket.send(JSON.stringify({ kind: 'page', id, topic, after, limit: 1000, max_bytes: MAX_BYTES }));
    const page = await lines.until('ok');
    seen += page.messages.length;
    after = page.cursor;
    if (!page.more) break;
    assert.ok(page.messages.length > 0);
  }
  assert.equal(seen, 2 * sizes.length);
});

test('the smallest bound that a subscription has said is the connection\'s', async (t) => {
  const broker = await start(t);
  const [one, other] = [freshTopic(), freshTopic()];
  const socket = await LineSocket.open(t, broker.base);
  assert.equal((await socket.ask({ kind: 'subscribe', topic: one, id: 1 })).kind, 'ok');
  await socket.linesUntil(({ kind }) => kind === 'caught_up');
  await publish(broker.base, one, LARGE[0]);
  assert.equal((await socket.line()).data, LARGE[0]);
  assert.equal((await socket.ask({ kind: 'subscribe', topic: other, id: 2, max_bytes: MAX_BYTES })).kind, 'ok');
  await socket.linesUntil(({ kind }) => kind === 'caught_up');
  await publish(broker.base, one, LARGE[0]);
  assert.equal((await socket.line()).omitted, true);
  assert.equal((await socket.ask({ kind: 'unsubscribe', sub: 2 })).kind, 'ok');
  await publish(broker.base, one, LARGE[0]);
  assert.equal((await socket.line()).omitted, true, 'it still reads no longer lines');
  const page = await socket.ask({ kind: 'page', topic: one, after: 'earliest', limit: 1 });
  assert.equal(page.messages[0].data, LARGE[0], 'a page says its own');
  const refused = await socket.ask({ kind: 'subscribe', topic: other, id: 3, max_bytes: 4095 });
  assert.deepEqual([refused.code, refused.parameter], ['parameter-invalid', 'max_bytes']);
});

test('polls that wait for the same with different bounds are answered each by its own', async (t) => {
  const broker = await start(t);
  const topic = freshTopic();
  const { cursor } = await publish(broker.base, topic, 'first');
  const urls = ['', `&max_bytes=${MAX_BYTES}`, `&max_bytes=${MAX_BYTES}`, '&max_bytes=1048576'].map(
    (bound) => `${broker.base}/topics/${topic}?after=${cursor}&wait=20${bound}`,
  );
  const polls = urls.map((url) => request(url));
  const { headers } = await request(`${broker.base}/topics/${topic}?after=${cursor}`);
  assert.ok(headers.get('retry-after'));
  await publish(broker.base, topic, LARGE[0]);
  const found = (await Promise.all(polls)).map(({ json }) => json.messages[0].data?.length);
  assert.deepEqual(found, [LARGE[0].length, undefined, undefined, LARGE[0].length]);
});

test('pages with a bound end before it, link on with it, and lose nothing', async (t) => {
  const broker = await start(t);
  const topic = freshTopic();
  const values = Array.from({ length: 300 }, (_, n) => ({ n, text: 'x'.repeat((n * 37) % 9000) }));
  await publishBatch(broker.base, topic, values);
  const got = [];
  for (let url = `${broker.base}/topics/${topic}?after=earliest&limit=1000&max_bytes=8192`; ; ) {
    const page = await request(url);
    assert.ok(page.bytes.length <= 8192, `${page.bytes.length} bytes`);
    got.push(...page.json.messages);
    url = nextLink(page, url);
    assert.match(url, /max_bytes=8192/);
    if (!page.json.more) break;
  }
  assert.equal(got.length, values.length);
  for (const [n, { data, omitted }] of got.entries()) assert.deepEqual(omitted ? values[n] : data, values[n]);
  assert.ok(got.some(({ omitted }) => omitted) && got.some(({ data }) => data));
  assertProblem(await request(`${broker.base}/topics/${topic}?max_bytes=1`), 400, 'parameter-invalid');
  assertProblem(await request(`${broker.base}/topics/${topic}?format=atom&max_bytes=8192`), 400, 'parameter-invalid');
});
