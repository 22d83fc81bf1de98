// A request that comes whole is read by the broker itself, and one that comes in parts by hyper: nobody may be able to tell.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { freshTopic, publish } from './support/http.mjs';
import { Raw } from './support/raw.mjs';

const ORIGIN = 'https://app.example';
const CUTS = [1, 10, -1];

const get = (target, headers = []) => [`GET ${target} HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join('\r\n');
const post = (target, body, headers = []) =>
  [`POST ${target} HTTP/1.1`, 'Host: localhost', `Content-Length: ${body.length}`, ...headers, '', body].join('\r\n');

/** One response: its status, its headers but for what differs from one to the next, and how its body looks. */
function parsed(text) {
  const [head, body] = text.split(/\r\n\r\n([\s\S]*)/);
  const [status, ...headers] = head.split('\r\n');
  const vague = (value) => value.replace(/[0-9a-v]{8}-[0-9a-v]{11}/g, 'CURSOR').replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');
  const kept = headers.filter((header) => !/^(date|retry-after):/i.test(header)).map(vague);
  return { status, headers: kept.sort(), body: vague(body).replace(/"retry_after_ms":\d+/, '') };
}

/** Sends a request, cut at some place, and gives the response. */
async function exchange(t, broker, text, cut) {
  const raw = await Raw.open(t, broker.port);
  await raw.send(text.slice(0, cut));
  if (cut < text.length) {
    // So that the parts don't come as one.
    await new Promise((resolve) => setImmediate(resolve));
    await raw.send(text.slice(cut));
  }
  const [head] = await raw.until(/^HTTP\/1\.1 [\s\S]*?\r\n\r\n/);
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0);
  await raw.until(({ received }) => received.length >= head.length + length);
  assert.equal(raw.received.length, head.length + length);
  raw.close();
  return parsed(raw.text);
}

describe('a request that came whole', () => {
  let broker;
  before(async () => {
    broker = await Broker.start({ args: ['--allow-origin', ORIGIN] });
  });
  after(() => broker.stop());

  const topic = freshTopic();
  const json = 'Content-Type: application/json';
  const requests = {
    'a publish': post(`/topics/${topic}`, '{"a":1}', [json]),
    'an empty one': post(`/topics/${topic}`, ''),
    'one that is no JSON': post(`/topics/${topic}`, '{', [json]),
    'one from another origin': post(`/topics/${topic}`, 'x', ['Origin: https://evil.example']),
    'one from an origin that may': post(`/topics/${topic}`, 'x', [`Origin: ${ORIGIN}`]),
    'one for another host': post(`/topics/${topic}`, 'x').replace('localhost', 'evil.example'),
    'one without a host': post(`/topics/${topic}`, 'x').replace('Host: localhost\r\n', ''),
    'one with two hosts': post(`/topics/${topic}`, 'x', ['Host: localhost']),
    'a batch': post(`/topics/${topic}`, '1\n2\n', ['Content-Type: application/x-ndjson']),
    'a batch across topics': post('/stream', `{"topic":"${topic}","data":1}\n`, ['Content-Type: application/x-ndjson']),
    'a publish to a pattern': post('/topics/*', 'x'),
    'a publish to a wrong name': post('/topics/a%2Fb', 'x'),
    'a publish whose condition fails': post(`/topics/${topic}`, 'x', ['If-None-Match: *']),
    'a page': get(`/topics/${topic}?limit=1&after=earliest`),
    'a page of nothing': get(`/topics/${freshTopic()}`),
    'a page by negotiation': get(`/topics/${topic}?limit=1`, ['Accept: application/json;q=0.5, */*;q=0.1']),
    'a page of a wrong cursor': get(`/topics/${topic}?after=x`),
    'a message as itself': get(`/topics/${topic}?format=raw&after=earliest`),
    'a message that was seen': get(`/topics/${topic}?format=raw`, ['If-None-Match: "x"']),
    'a long-poll': get(`/topics/${freshTopic()}?wait=1`, [`Origin: ${ORIGIN}`]),
    'no transport': get(`/topics/${topic}`, ['Accept: image/png']),
    'the list of topics': get('/topics?prefix=nothing'),
    'a check': get('/healthz'),
    'nothing': get('/nowhere'),
    'another method': post('/healthz', ''),
    'options': [`PUT /options/${topic} HTTP/1.1`, 'Host: localhost', json, 'Content-Length: 18', '', '{"max_messages":9}'].join('\r\n'),
    'a deletion': [`DELETE /topics/${freshTopic()} HTTP/1.1`, 'Host: localhost', '', ''].join('\r\n'),
    'an endless body': ['POST /topics/a HTTP/1.1', 'Host: localhost', 'Content-Length: 99999999999', '', ''].join('\r\n'),
  };
  for (const [name, text] of Object.entries(requests)) {
    test(`is answered as one that came in parts: ${name}`, async (t) => {
      await publish(broker.base, topic, 'first');
      const whole = await exchange(t, broker, text, text.length);
      const inParts = await Promise.all(CUTS.map((cut) => exchange(t, broker, text, cut < 0 ? text.length + cut : cut)));
      for (const other of inParts) assert.deepEqual(other, whole);
    });
  }

  test('is one of many in a row, each answered in its turn', async (t) => {
    const [own, count] = [freshTopic(), 20];
    const raw = await Raw.open(t, broker.port);
    const publishes = Array.from({ length: count }, (_, n) => post(`/topics/${own}`, `${n}`, ['Content-Type: application/json']));
    await raw.send(publishes.join('') + get(`/topics/${own}`));
    const [, page] = await raw.until(/\r\n\r\n(\{"messages":[\s\S]*\})$/);
    assert.deepEqual(JSON.parse(page).messages.map(({ data }) => data), Array.from({ length: count }, (_, n) => n));
    assert.equal(raw.text.match(/HTTP\/1\.1 201 Created\r\n/g).length, count);
  });

  test('and is more than is read at once', async (t) => {
    const own = freshTopic();
    for (const size of [8 << 10, 64 << 10, 900 << 10]) {
      const raw = await Raw.open(t, broker.port);
      await raw.send(post(`/topics/${own}`, 'x'.repeat(size)));
      await raw.until(/^HTTP\/1\.1 201 /);
      const answer = await fetch(`${broker.base}/topics/${own}?format=raw`);
      assert.equal((await answer.text()).length, size);
    }
  });
});
