// What is not a topic, a cursor, a message or a request: refused at once, with a stable code, and nothing is stored.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { CURSOR, assertProblem, freshTopic, publish, readAll, remove, request } from './support/http.mjs';
import { exchange } from './support/raw.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

const post = (path, body = '1', headers = {}) =>
  request(`${broker.base}${path}`, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } });

/** A request whose path no client library would send; gives its status and code. */
async function rawRequest(t, method, path) {
  const length = method === 'POST' ? 'Content-Length: 1\r\n' : '';
  const text = await exchange(t, broker.port, `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${length}\r\n${length && '1'}`);
  return { status: Number(text.split(' ')[1]), code: /"code":"([^"]*)"/.exec(text)?.[1] };
}

describe('names', () => {
  const INVALID = {
    'a slash, encoded': 'a%2Fb',
    'a slash, encoded in lower case': 'a%2fb',
    'a backslash, encoded': 'a%5Cb',
    'an empty segment': 'a//b',
    'an empty segment at the end': 'a/',
    'an empty segment at the beginning': '/a',
    'nothing': '',
    'a dot': 'a/./b',
    'two dots': 'a/../b',
    'two dots, encoded': 'a/%2E%2e/b',
    'a control character': 'a%00b',
    'a line break': 'a%0Ab',
    'DEL': 'a%7Fb',
    'a C1 control character': 'a%C2%85b',
    'invalid UTF-8': 'a%FFb',
    'a surrogate': 'a%ED%A0%80',
    'an overlong form': 'a%C0%AF',
    'an incomplete escape': 'a%4',
    'no escape': 'a%zz',
    'not NFC': 'e%CC%81',
    'a star in a segment': 'a*',
    'a star, encoded, in a segment': 'a%2Ab',
    '256 bytes': 'x'.repeat(256),
    '256 bytes in many segments': `${'x/'.repeat(127)}xx`,
  };
  for (const [name, path] of Object.entries(INVALID)) {
    test(name, async (t) => {
      for (const method of ['GET', 'POST', 'DELETE']) {
        assert.deepEqual(await rawRequest(t, method, `/topics/${path}`), { status: 400, code: 'topic-invalid' }, method);
      }
    });
  }

  const ENCODED = ['a/', '/a', 'a//b', 'e\u0301', 'a*b', 'a/../b', 'x'.repeat(256), '**/a', ''];
  for (const topic of ENCODED) {
    test(`/stream?topic=${JSON.stringify(topic).slice(0, 20)}`, async () => {
      assertProblem(await request(`${broker.base}/stream?topic=${encodeURIComponent(topic)}`), 400, 'topic-invalid');
    });
  }

  test('** stands last only', async () => {
    assertProblem(await request(`${broker.base}/topics/a/**/b`), 400, 'topic-invalid');
  });

  test('a pattern can only be read', async () => {
    for (const pattern of ['*', 'a/*', 'a/**', '*/a']) {
      assertProblem(await post(`/topics/${pattern}`), 400, 'pattern-not-allowed');
      assertProblem(await request(`${broker.base}/topics/${pattern}`, { method: 'DELETE' }), 400, 'pattern-not-allowed');
    }
  });

  test("the broker's own topics can't be published to, and no wildcard matches them", async () => {
    for (const topic of ['$sys', '$sys/x', '$presence/room', '$anything']) assertProblem(await post(`/topics/${topic}`), 403, 'topic-reserved');
    const { cursor } = await publish(broker.base, freshTopic('ok/$sys'), 'only the first segment counts');
    const all = await readAll(broker.base, '/topics/**');
    assert.ok(all.some((message) => message.cursor === cursor));
    assert.ok(all.every(({ topic }) => !topic.startsWith('$')));
  });

  test('255 bytes, in many segments or one, in any script, are a topic', async () => {
    for (const topic of ['x'.repeat(255), 'x/'.repeat(127) + 'x', '日'.repeat(85), 'a/...', 'a/.b']) {
      const path = topic.split('/').map(encodeURIComponent).join('/');
      assert.equal((await publish(broker.base, path, 'x')).topic, topic);
    }
  });
});

describe('parameters', () => {
  const BAD = {
    'cursor-invalid': [
      'after=',
      'after=x',
      'after=00000000-0000000000',
      'after=00000000-000000000000',
      'after=00000000-0000000000w',
      'after=00000000_00000000000',
      'after=0000000A-00000000000',
    ],
    'parameter-invalid': [
      'limit=0',
      'limit=x',
      'limit=-1',
      'last=x',
      'last=-1',
      'wait=x',
      'format=nonsense',
      'after=latest&last=2',
      'after=latest&after=earliest',
    ],
  };
  for (const [code, queries] of Object.entries(BAD)) {
    for (const query of queries) {
      test(query, async () => assertProblem(await request(`${broker.base}/topics/${freshTopic()}?${query}`), 400, code));
    }
  }

  test('101 topics are too many', async () => {
    const query = Array.from({ length: 101 }, (_, n) => `topic=t${n}`).join('&');
    assertProblem(await request(`${broker.base}/stream?${query}`), 400, 'filter-too-large');
  });

  test('nothing acceptable', async () => {
    assertProblem(await request(`${broker.base}/topics/a`, { headers: { accept: 'image/png' } }), 406, 'not-acceptable');
  });
});

describe('messages', () => {
  const REFUSED = [
    { name: 'JSON that is none', body: '{', status: 400, code: 'json-invalid' },
    { name: 'no JSON at all', body: '', status: 400, code: 'json-invalid' },
    { name: 'JSON that is not UTF-8', body: Buffer.from([0x22, 0xff, 0x22]), status: 400, code: 'json-invalid' },
    { name: 'a bomb of depth', body: '['.repeat(1 << 20), status: 400, code: 'json-invalid' },
    { name: 'a balanced bomb of depth', body: '['.repeat(500_000) + ']'.repeat(500_000), status: 400, code: 'json-invalid' },
    { name: 'a bomb of objects', body: '{"a":'.repeat(200_000), status: 400, code: 'json-invalid' },
    { name: 'a byte more than 1 MiB', body: 'x'.repeat((1 << 20) + 1), headers: { 'content-type': 'text/plain' }, status: 413 },
    { name: 'a type that is none', headers: { 'content-type': 'nonsense' }, status: 415, code: 'media-type-invalid' },
    { name: 'an event that is reserved', query: '?event=open', status: 400, code: 'event-invalid' },
    { name: 'an error as event', query: '?event=error', status: 400, code: 'event-invalid' },
    { name: "an event of the broker's", query: '?event=tailwire.bye', status: 400, code: 'event-invalid' },
    { name: 'an event with a line break', query: '?event=a%0Adata:x', status: 400, code: 'event-invalid' },
    { name: 'an event of 65 characters', query: `?event=${'x'.repeat(65)}`, status: 400, code: 'event-invalid' },
    { name: 'an empty event', query: '?event=', status: 400, code: 'event-invalid' },
    { name: 'a key that is too long', query: `?key=${'x'.repeat(256)}`, status: 400, code: 'key-invalid' },
  ];
  for (const { name, body = '1', query = '', headers, status, code } of REFUSED) {
    test(name, async () => {
      const topic = freshTopic();
      const answer = await post(`/topics/${topic}${query}`, body, headers);
      assert.equal(answer.status, status, answer.text);
      if (code) assertProblem(answer, status, code);
      assert.equal((await readAll(broker.base, `/topics/${topic}`)).length, 0);
    });
  }

  test('a body that announces itself as too large is refused before it is sent', async (t) => {
    const text = await exchange(t, broker.port, 'POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n');
    assert.match(text, /^HTTP\/1\.1 413 /);
  });
});

describe('methods and resources', () => {
  const ALLOWED = [
    { path: '/topics/a', methods: ['PUT', 'PATCH'], allow: ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST'] },
    { path: '/stream?topic=a', methods: ['PUT', 'DELETE'], allow: ['GET', 'HEAD', 'OPTIONS', 'POST', 'QUERY'] },
    { path: '/topics', methods: ['POST', 'PUT', 'DELETE'], allow: ['GET', 'HEAD', 'OPTIONS'] },
    { path: '/messages/00000000-00000000001', methods: ['POST', 'PUT'], allow: ['DELETE', 'GET', 'HEAD', 'OPTIONS'] },
    { path: '/healthz', methods: ['POST', 'DELETE'], allow: ['GET', 'HEAD', 'OPTIONS'] },
  ];
  for (const { path, methods, allow } of ALLOWED) {
    test(`${path} has ${allow.join(', ')}`, async () => {
      for (const method of methods) {
        const answer = await request(broker.base + path, { method });
        assertProblem(answer, 405, 'method-not-allowed');
        assert.deepEqual(answer.headers.get('allow').split(/,\s*/).sort(), allow, method);
      }
      const options = await request(broker.base + path, { method: 'OPTIONS' });
      assert.deepEqual([options.status, options.headers.get('allow').split(/,\s*/).sort()], [204, allow]);
    });
  }

  test('the allowed methods of a pattern are those that read', async () => {
    const answer = await request(`${broker.base}/topics/a/*`, { method: 'PUT' });
    assertProblem(answer, 405, 'method-not-allowed');
    assert.deepEqual(answer.headers.get('allow').split(/,\s*/).sort(), ['GET', 'HEAD', 'OPTIONS']);
  });

  test('HEAD says what GET says, without a body, and never waits', async () => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'x');
    for (const path of [`/topics/${topic}`, `/messages/${cursor}`, '/topics', `/topics/${topic}?after=${cursor}&wait=20`]) {
      const began = performance.now();
      const head = await request(broker.base + path, { method: 'HEAD' });
      const get = await request(broker.base + path.replace('&wait=20', ''));
      assert.deepEqual([head.status, head.text], [get.status, ''], path);
      for (const name of ['content-type', 'tailwire-cursor', 'etag', 'cache-control']) {
        assert.equal(head.headers.get(name), get.headers.get(name), `${path} ${name}`);
      }
      assert.ok(performance.now() - began < 10_000, 'it waited');
    }
  });

  test('an unknown resource is 404', async () => {
    for (const path of ['/nonsense', '/messages', '/topics/a/../../nonsense']) assertProblem(await request(broker.base + path), 404, 'not-found');
  });

  test('the resources of operations', async () => {
    for (const path of ['/healthz', '/readyz', '/openapi.json']) assert.equal((await request(broker.base + path)).status, 200, path);
  });
});

describe('stored messages', () => {
  test('a message as itself: body, type, immutable, and harmless in a browser', async () => {
    const topic = freshTopic();
    const bodies = [['image/png', Buffer.from([1, 255])], ['application/json', Buffer.from('{ "a": 1\n}')], ['text/plain', Buffer.from('ž')]];
    for (const [type, body] of bodies) {
      const { cursor } = await publish(broker.base, topic, body, { 'content-type': type });
      const answer = await request(`${broker.base}/messages/${cursor}`);
      assert.deepEqual([answer.status, answer.headers.get('content-type'), answer.headers.get('tailwire-cursor')], [200, type, cursor]);
      assert.ok(answer.bytes.equals(body), type);
      assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
      assert.match(answer.headers.get('content-security-policy'), /sandbox/);
    }
  });

  test('active types are served as bytes', async () => {
    const topic = freshTopic();
    const active = [
      'text/html',
      'TEXT/HTML; charset=utf-8',
      'application/xhtml+xml',
      'image/svg+xml',
      'text/xml',
      'application/xml',
      'text/javascript',
      'application/javascript',
      'text/css',
      'application/wasm',
      'application/pdf',
    ];
    for (const type of active) {
      const { cursor } = await publish(broker.base, topic, '<script>alert(1)</script>', { 'content-type': type });
      const { headers } = await request(`${broker.base}/messages/${cursor}`);
      assert.deepEqual([headers.get('content-type'), headers.get('tailwire-type')], ['application/octet-stream', type]);
    }
  });

  test('a cursor of no message is 404, one of a removed message 410', async () => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'x');
    assert.match(cursor, CURSOR);
    await remove(broker.base, topic);
    assertProblem(await request(`${broker.base}/messages/${cursor}`), 410, 'message-gone');
    assertProblem(await request(`${broker.base}/messages/00000000-00000000001`), 404, 'message-not-found');
    assertProblem(await request(`${broker.base}/messages/x`), 400, 'cursor-invalid');
  });
});
