// What proxies, load balancers, scrapers and other people's clients ask of HTTP beside the protocol itself.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib';

import { Broker } from './support/broker.mjs';
import { assertProblem, freshTopic, publish, request } from './support/http.mjs';
import { exchange } from './support/raw.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

const get = (path, headers = {}, method = 'GET') => request(broker.base + path, { method, headers });
const post = (path, body, headers) => request(broker.base + path, { method: 'POST', body, headers });
const headBytes = (headers) => [...headers].reduce((sum, [name, value]) => sum + name.length + value.length + 4, 40);

describe('content codings of requests', () => {
  const json = { 'content-type': 'application/json' };

  test('are taken off, one or a list, and are no part of the message', async () => {
    const body = Buffer.from('{"text":"hi"}');
    for (const [coding, coded] of [
      ['gzip', gzipSync(body)],
      ['x-gzip', gzipSync(body)],
      ['deflate', deflateSync(body)],
      ['deflate', deflateRawSync(body)],
      ['br', brotliCompressSync(body)],
      ['identity', body],
      ['gzip, br', brotliCompressSync(gzipSync(body))],
      ['GZIP,identity , deflate', deflateSync(gzipSync(body))],
    ]) {
      const topic = freshTopic();
      const answer = await post(`/topics/${topic}`, coded, { ...json, 'content-encoding': coding });
      assert.equal(answer.status, 201, `${coding}: ${answer.text}`);
      const page = await get(`/topics/${topic}`);
      assert.deepEqual(page.json.messages[0].data, { text: 'hi' }, coding);
      const raw = await get(`/topics/${topic}?format=raw`);
      assert.deepEqual([raw.text, raw.headers.get('content-encoding')], ['{"text":"hi"}', null]);
    }
  });

  test('a batch and options may be coded too', async () => {
    const topic = freshTopic();
    const ndjson = { 'content-type': 'application/x-ndjson', 'content-encoding': 'gzip' };
    const batch = await post(`/topics/${topic}`, gzipSync('1\n2\n3'), ndjson);
    assert.equal(batch.json.receipts.length, 3, batch.text);
    const options = await request(`${broker.base}/options/${topic}`, {
      method: 'PUT',
      body: gzipSync('{"max_messages":2}'),
      headers: { ...json, 'content-encoding': 'gzip' },
    });
    assert.equal(options.json.max_messages, 2, options.text);
  });

  test('others are 415 with those that there are', async () => {
    for (const coding of ['compress', 'nonsense', 'gzip, nonsense', 'gzip, gzip, gzip, gzip']) {
      const answer = await post(`/topics/${freshTopic()}`, 'x', { ...json, 'content-encoding': coding });
      assertProblem(answer, 415, 'coding-unknown');
      assert.equal(answer.headers.get('accept-encoding'), 'gzip, deflate, br, zstd');
    }
  });

  test('a bomb is 413, measured after decoding, and a body that lies is 400', async () => {
    const bomb = gzipSync(gzipSync(Buffer.alloc(64 << 20)));
    assert.ok(bomb.length < 10_000);
    const refused = await post(`/topics/${freshTopic()}`, bomb, { 'content-encoding': 'gzip, gzip' });
    assertProblem(refused, 413, 'body-too-large');
    const topic = freshTopic();
    assertProblem(await post(`/topics/${topic}`, 'no gzip', { 'content-encoding': 'gzip' }), 400, 'request-invalid');
    const cut = gzipSync('x'.repeat(1000)).subarray(0, 20);
    assertProblem(await post(`/topics/${topic}`, cut, { 'content-encoding': 'gzip' }), 400, 'request-invalid');
    assert.deepEqual((await get(`/topics/${topic}`)).json.messages, []);
  });
});

describe('OPTIONS', () => {
  test('is 204 with Allow, on the root and the server as a whole too', async (t) => {
    for (const path of ['/', '/readyz', '/options/a', '/options', '/openapi.json', '/client.js']) {
      const answer = await get(path, {}, 'OPTIONS');
      assert.equal(answer.status, 204, path);
      assert.match(answer.headers.get('allow'), /^GET, HEAD.*, OPTIONS$/, path);
    }
    for (const request of ['OPTIONS / HTTP/1.0\r\n\r\n', 'OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n']) {
      const text = await exchange(t, broker.port, request);
      assert.match(text, /^HTTP\/1\.[01] 204 /, request);
      assert.match(text, /\r\nallow: GET, HEAD/i, request);
    }
    assertProblem(await get('/nothing', {}, 'OPTIONS'), 404, 'not-found');
  });
});

describe('what was probably meant is named', () => {
  for (const [method, path, status, word] of [
    ['POST', '/publish', 404, 'POST /topics/{topic}'],
    ['GET', '/topcis/a', 404, '/topics/{topic}'],
    ['GET', '/health', 404, '/healthz'],
    ['POST', '/topics', 405, 'POST /topics/{topic}'],
    ['PUT', '/topics/a', 405, 'POST /topics/{topic}'],
    ['POST', '/messages/x', 405, 'POST /topics/{topic}'],
    ['GET', '/topics/a?limt=1', 400, 'limit'],
    ['GET', '/topics/a?key=s001&format=raw', 400, 'publishing'],
    ['POST', '/topics/a?evnt=x', 400, 'event'],
    ['POST', '/topics/a?limit=1', 400, 'reading'],
    ['GET', '/topics?after=x', 400, 'reading'],
    ['GET', '/topics/a?Key=s001', 400, 'publishing'],
    ['DELETE', '/topics/a?after=x', 400, 'reading'],
    ['DELETE', '/options/a?topic=b', 400, 'topic'],
    ['GET', '/options?prefix=a', 400, 'the list of topics'],
    ['POST', '/topics/a?idempotency_key=x', 400, 'the header `Idempotency-Key`'],
    ['POST', '/topics/a?if-match=x', 400, 'the header `If-Match`'],
  ]) {
    test(`${method} ${path}`, async () => {
      const answer = await get(path, {}, method);
      assert.equal(answer.status, status, answer.text);
      assert.ok(answer.json.detail.includes(word), answer.text);
    });
  }

  test('what proxies and analytics add is ignored', async () => {
    assert.equal((await get('/topics/a?utm_source=x&_=1&cachebust=2')).status, 202);
  });
});

describe('hosts and origins', () => {
  test('health is answered whatever the host, and nothing else is', async () => {
    const ask = (path, host) => exchange(undefined, broker.port, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    assert.match(await ask('/healthz', 'probe.example'), /^HTTP\/1\.1 200 /);
    assert.match(await ask('/readyz', '10.0.0.7:8245'), /^HTTP\/1\.1 200 /);
    for (const host of ['probe.example', '[::1]evil', 'localhost.evil.example', '127.0.0.1.evil.example', 'localhost:80evil']) {
      assert.match(await ask('/topics', host), /^HTTP\/1\.1 4(00|21) /, host);
    }
    assert.match(await ask('/topics', 'localhost:1'), /^HTTP\/1\.1 200 /);
    assert.match(await ask('/topics', '[::1]:1'), /^HTTP\/1\.1 200 /);
  });

  test('the refusal of a foreign origin can be read by its page', async () => {
    const answer = await post('/topics/a', '1', { origin: 'https://elsewhere.example' });
    assertProblem(answer, 403, 'foreign-origin');
    assert.equal(answer.headers.get('access-control-allow-origin'), '*');
  });

  test('a POST with an Upgrade is a publish', async (t) => {
    const topic = freshTopic();
    const head = `POST /topics/${topic} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 1\r\n\r\n1`;
    const { Raw } = await import('./support/raw.mjs');
    const raw = await Raw.open(t, broker.port);
    await raw.send(head);
    await raw.until(/^HTTP\/1\.1 201 /);
  });
});

describe('QUERY', () => {
  const query = (path, topics, headers = {}) =>
    request(broker.base + path, {
      method: 'QUERY',
      body: topics.map((topic) => `topic=${encodeURIComponent(topic)}`).join('&'),
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    });

  test('asks for a hundred topics of 255 bytes', async () => {
    const topics = Array.from({ length: 100 }, (_, index) => `${freshTopic()}/`.padEnd(252, 'ž'.normalize('NFC')).slice(0, 130) + index);
    await publish(broker.base, topics[7].split('/').map(encodeURIComponent).join('/'), 'x');
    const page = await query('/stream?after=earliest', topics);
    assert.deepEqual(page.json.messages.map(({ topic }) => topic), [topics[7]], page.text);
    assert.ok(headBytes(page.headers) < 4096);
    const empty = await query(`/stream?wait=1&after=${page.json.cursor}`, topics);
    assert.deepEqual([empty.status, empty.headers.get('preference-applied')], [202, 'wait=1']);
    for (const accept of ['text/event-stream', 'application/x-ndjson']) {
      const answer = await fetch(`${broker.base}/stream?after=earliest`, {
        method: 'QUERY',
        body: topics.map((topic) => `topic=${encodeURIComponent(topic)}`).join('&'),
        headers: { 'content-type': 'application/x-www-form-urlencoded', accept },
        signal: AbortSignal.timeout(20_000),
      });
      assert.equal(answer.headers.get('content-type'), accept);
      const reader = answer.body.getReader();
      let text = '';
      while (!text.includes('caught_up')) text += Buffer.from((await reader.read()).value).toString();
      assert.match(text, /"?data"?: ?"?x/);
      await reader.cancel();
    }
  });

  test('is refused as GET is, and without a form', async () => {
    assertProblem(await query('/stream', Array.from({ length: 101 }, (_, index) => `t/${index}`)), 400, 'filter-too-large');
    assertProblem(await query('/stream', ['a'], { 'content-type': 'application/json' }), 415, 'media-type-invalid');
    assertProblem(await query('/topics/a', []), 405, 'method-not-allowed');
    assertProblem(await query('/stream', ['x'.repeat(200_000)]), 413, 'body-too-large');
  });
});

test('HEAD over HTTP/2 has the length and no body', async (t) => {
  const { connect } = await import('node:http2');
  const session = connect(broker.base);
  t.after(() => session.close());
  for (const path of ['/healthz', '/topics/a', '/openapi.json', '/nothing']) {
    const answers = [];
    for (const method of ['GET', 'HEAD']) {
      const stream = session.request({ ':path': path, ':method': method });
      const head = await new Promise((resolve, reject) => stream.on('response', resolve).on('error', reject));
      let bytes = 0;
      for await (const part of stream) bytes += part.length;
      answers.push({ status: head[':status'], length: Number(head['content-length'] ?? bytes), bytes });
    }
    const [get, head] = answers;
    assert.equal(head.bytes, 0, path);
    if (path !== '/topics/a') assert.deepEqual([head.status, head.length], [get.status, get.bytes], path);
  }
});

describe('heads', () => {
  test('stay under 4 KB whatever was asked', async () => {
    const topics = Array.from({ length: 100 }, (_, index) => `topic=long/${'n'.repeat(80)}/${index}`).join('&');
    for (const path of [`/stream?${topics}`, `/stream?${topics}&after=latest&wait=1`, `/stream?${topics}&format=sse`]) {
      const answer = await fetch(broker.base + path, { signal: AbortSignal.timeout(20_000) });
      assert.ok([200, 202].includes(answer.status), path);
      assert.ok(headBytes(answer.headers) < 4096, `${headBytes(answer.headers)} bytes`);
      assert.ok(answer.headers.get('tailwire-cursor'));
      await answer.body.cancel();
    }
    const headers = Object.fromEntries(Array.from({ length: 15 }, (_, index) => [`tailwire-header-h${index}`, 'v'.repeat(250)]));
    const topic = `${freshTopic()}/${'ž'.repeat(100)}`.normalize('NFC');
    const name = topic.split('/').map(encodeURIComponent).join('/');
    const { cursor } = await publish(broker.base, name, 'x', { ...headers, 'tailwire-key': 'k'.repeat(255) });
    const message = await get(`/messages/${cursor}`);
    assert.ok(headBytes(message.headers) < 4096, `${headBytes(message.headers)} bytes`);
    assert.equal(message.headers.get('tailwire-header-h0').length, 250);
  });

  test('stay under 4 KB after a preflight for many headers, whose page may send them', async (t) => {
    const open = await Broker.start({ args: ['--allow-origin', 'https://app.example'] });
    t.after(() => open.stop());
    for (const count of [3, 400]) {
      const names = Array.from({ length: count }, (_, index) => `x-header-${index}`).join(',');
      const asked = { origin: 'https://app.example', 'access-control-request-method': 'POST', 'access-control-request-headers': names };
      const answer = await request(`${open.base}/topics/a`, { method: 'OPTIONS', headers: asked });
      assert.ok(headBytes(answer.headers) < 4096, `${headBytes(answer.headers)} bytes`);
      assert.equal(answer.headers.get('access-control-allow-headers'), count === 3 ? names : '*, authorization');
    }
  });

  test('every body is nosniff', async () => {
    for (const path of ['/', '/topics', '/topics/a', '/nothing', '/topics/..', '/openapi.json', '/client.js', '/healthz']) {
      assert.equal((await get(path)).headers.get('x-content-type-options'), 'nosniff', path);
    }
  });
});

describe('server-sent events of other clients', () => {
  const first = async (path, headers = {}) => {
    const answer = await fetch(broker.base + path, { headers, signal: AbortSignal.timeout(20_000) });
    assert.equal(answer.status, 200);
    const reader = answer.body.getReader();
    let text = '';
    while (!text.includes('caught_up')) text += Buffer.from((await reader.read()).value).toString();
    await reader.cancel();
    return text;
  };

  test('lastEventId in the query is the header for those who can set none', async () => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'one');
    await publish(broker.base, topic, 'two');
    for (const name of ['lastEventId', 'last-event-id', 'Last-Event-ID', 'last_event_id', 'evs_last_event_id']) {
      const text = await first(`/topics/${topic}?format=sse&after=earliest&${name}=${cursor}`);
      assert.ok(text.includes('data: two') && !text.includes('data: one'), name);
    }
  });

  test('an id of another server is a gap, and reading goes on', async () => {
    const topic = freshTopic();
    await publish(broker.base, topic, 'one');
    for (const id of ['42', 'urn:uuid:x', '1-2', 'zzzzzzzz-00000000001']) {
      const text = await first(`/topics/${topic}?format=sse`, { 'last-event-id': id });
      assert.match(text, /^retry: \d+\nevent: tailwire\.gap\ndata: .*"reason":"epoch"/, id);
      assert.ok(text.includes('data: one'), id);
    }
    for (const id of ['42', '%ff%fe', 'a%00b', '%', encodeURIComponent('{"a":1}')]) {
      const text = await first(`/topics/${topic}?format=sse&lastEventId=${id}`);
      assert.ok(text.includes('"reason":"epoch"') && text.includes('data: one'), id);
    }
  });
});

test('metrics are text unless OpenMetrics is asked for', async () => {
  const get = (path, headers) => request(broker.operations + path, { headers });
  const text = await get('/metrics');
  assert.equal(text.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  assert.match(text.text, /# TYPE tailwire_messages_in_total counter\ntailwire_messages_in_total \d+\n/);
  assert.doesNotMatch(text.text, /# (EOF|UNIT)|TYPE \S+ info/);
  const open = await get('/metrics', { accept: 'application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1' });
  assert.equal(open.headers.get('content-type'), 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  assert.match(open.text, /# EOF\n$/);
  const rather = await get('/metrics', { accept: 'application/openmetrics-text;q=0.3,text/plain;q=0.5' });
  assert.match(rather.headers.get('content-type'), /^text\/plain/);
});
