// Publishing by POST: receipts, batches, conditions, idempotency, and what is refused.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { CURSOR, assertProblem, freshTopic, nextLink, postLines, publish, publishBatch, readAll, remove, request } from './support/http.mjs';
import { exchange } from './support/raw.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const cursorsOf = (messages) => messages.map(({ cursor }) => cursor);
const stored = (topic) => readAll(broker.base, `/topics/${topic}`);

/** A POST of JSON, unless the headers say otherwise. */
const post = (path, body = '1', headers = {}) =>
  request(`${broker.base}${path}`, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } });

describe('receipts', () => {
  test('201 with the cursor, the place of the message, and a receipt', async () => {
    const topic = freshTopic();
    const began = Date.now();
    const answer = await post(`/topics/${topic}`, '{"a":1}');
    assert.equal(answer.status, 201);
    assert.deepEqual(Object.keys(answer.json).sort(), ['cursor', 'time', 'topic', 'type']);
    assert.match(answer.json.cursor, CURSOR);
    assert.equal(answer.json.type, 'application/json');
    assert.equal(answer.json.topic, topic);
    assert.ok(Math.abs(Date.parse(answer.json.time) - began) < 60_000);
    assert.equal(answer.headers.get('tailwire-cursor'), answer.json.cursor);
    assert.equal(answer.headers.get('location'), `../../messages/${answer.json.cursor}`);
    const message = await request(new URL(answer.headers.get('location'), `${broker.base}/topics/${topic}`));
    assert.deepEqual([message.status, message.text], [200, '{"a":1}']);
  });

  test('a topic with every kind of character is the same everywhere', async () => {
    const name = `${freshTopic()}/ž 日本 🦀 ?#&=+%!$'"~`;
    const path = name.split('/').map(encodeURIComponent).join('/');
    const receipt = await publish(broker.base, path, 'x');
    assert.equal(receipt.topic, name);
    const [message] = await readAll(broker.base, `/stream?topic=${encodeURIComponent(name)}`);
    assert.deepEqual([message.topic, message.cursor], [name, receipt.cursor]);
    const list = await request(`${broker.base}/topics?prefix=${encodeURIComponent(name)}`);
    assert.deepEqual(list.json.topics.map(({ topic }) => topic), [name]);
  });
});

describe('batches', () => {
  test('on a topic: each line is a message, each has a receipt, all come with one commit', async () => {
    const topic = freshTopic();
    const answer = await postLines(`${broker.base}/topics/${topic}`, [{ a: 1 }, 'two', null, [3]]);
    assert.equal(answer.status, 201);
    assert.equal(answer.headers.get('location'), null);
    assert.equal(answer.json.receipts.length, 4);
    assert.equal(answer.headers.get('tailwire-cursor'), answer.json.receipts[3].cursor);
    const messages = await stored(topic);
    assert.deepEqual(messages.map(({ data }) => data), [{ a: 1 }, 'two', null, [3]]);
    assert.deepEqual(cursorsOf(messages), cursorsOf(answer.json.receipts));
    assert.ok(messages.every(({ type }) => type === 'application/json'));
  });

  test('on /stream: each line has its topic, data and options', async () => {
    const root = freshTopic();
    const answer = await postLines(`${broker.base}/stream`, [
      { topic: `${root}/a`, data: { n: 1 }, event: 'tick', key: 'k', headers: { h: 'v' } },
      { topic: `${root}/b`, data: 'text', type: 'text/plain' },
      { topic: `${root}/a`, data: 'AAE=', encoding: 'base64', type: 'application/octet-stream' },
    ]);
    assert.equal(answer.status, 201, answer.text);
    assert.deepEqual(answer.json.receipts.map(({ topic }) => topic), [`${root}/a`, `${root}/b`, `${root}/a`]);
    const [first, second, third] = await stored(`${root}/*`);
    assert.deepEqual([first.data, first.event, first.key, first.headers], [{ n: 1 }, 'tick', 'k', { h: 'v' }]);
    assert.deepEqual([second.data, second.type], ['text', 'text/plain']);
    assert.deepEqual([third.data, third.encoding], ['AAE=', 'base64']);
  });

  const BAD_LINES = [
    { name: 'not JSON', path: (root) => `/topics/${root}/a`, lines: '1\n{"a":\n3', line: 2 },
    { name: 'a topic that is none', path: () => '/stream', lines: (root) => `{"topic":"${root}/a","data":1}\n{"topic":"${root}//a","data":1}`, line: 2 },
    { name: 'a topic that is a pattern', path: () => '/stream', lines: (root) => `{"topic":"${root}/*","data":1}`, line: 1 },
    { name: 'no data', path: () => '/stream', lines: (root) => `{"topic":"${root}/a","data":1}\n{"topic":"${root}/a"}`, line: 2 },
    { name: 'no topic', path: () => '/stream', lines: (root) => `{"topic":"${root}/a","data":1}\n{"data":1}`, line: 2 },
    { name: 'text that is not a string', path: () => '/stream', lines: (root) => `{"topic":"${root}/a","data":1}\n{"topic":"${root}/a","data":1,"type":"text/plain"}`, line: 2 },
  ];
  for (const { name, path, lines, line } of BAD_LINES) {
    test(`one bad line (${name}) refuses all of them, and is named`, async () => {
      const root = freshTopic();
      const body = typeof lines === 'string' ? lines : lines(root);
      const answer = await post(path(root), body, { 'content-type': 'application/x-ndjson' });
      assert.equal(answer.status, 400, answer.text);
      assert.equal(answer.json.line, line, answer.text);
      assert.equal((await stored(`${root}/**`)).length, 0);
    });
  }

  test('a reserved topic in a batch refuses all of it', async () => {
    const root = freshTopic();
    assertProblem(await postLines(`${broker.base}/stream`, [{ topic: root, data: 1 }, { topic: '$sys/x', data: 1 }]), 403, 'topic-reserved');
    assert.equal((await stored(root)).length, 0);
  });

  test('an empty batch is refused', async () => {
    assertProblem(await post('/stream', '', { 'content-type': 'application/x-ndjson' }), 400, 'batch-invalid');
  });

  test('a batch of too many messages, or of too many bytes, is 413', async () => {
    const topic = freshTopic();
    assertProblem(await postLines(`${broker.base}/topics/${topic}`, numbers(10_001)), 413, 'batch-too-large');
    const large = 'x'.repeat(1 << 19);
    assertProblem(await postLines(`${broker.base}/topics/${topic}`, Array(17).fill(large)), 413, 'body-too-large');
    assert.equal((await stored(topic)).length, 0);
  });

  test('only a batch is published on /stream', async () => {
    assertProblem(await post('/stream', '1'), 415, 'media-type-invalid');
  });
});

describe('conditions', () => {
  test('If-Match: only if nothing came after that cursor', async () => {
    const topic = freshTopic();
    const first = await publish(broker.base, topic, 'first');
    await publish(broker.base, freshTopic(), 'elsewhere');
    const second = await post(`/topics/${topic}`, '2', { 'if-match': `"${first.cursor}"` });
    assert.equal(second.status, 201);
    const late = await post(`/topics/${topic}`, '3', { 'if-match': `"${first.cursor}"` });
    assertProblem(late, 412, 'condition-failed');
    assert.equal(late.headers.get('tailwire-cursor'), second.json.cursor);
    assert.equal((await stored(topic)).length, 2);
  });

  test('of many writers with one condition, one writes', async () => {
    const topic = freshTopic();
    let { cursor } = await publish(broker.base, topic, '0');
    for (const round of numbers(5)) {
      const answers = await Promise.all(numbers(20).map((n) => post(`/topics/${topic}`, `${n}`, { 'if-match': `"${cursor}"` })));
      assert.deepEqual(answers.map(({ status }) => status).sort(), [201, ...Array(19).fill(412)]);
      cursor = answers.find(({ status }) => status === 201).json.cursor;
      assert.equal((await stored(topic)).length, round + 2);
    }
  });

  test('If-None-Match: *: only if the topic never had a message, also not one that is deleted', async () => {
    const topic = freshTopic();
    const condition = { 'if-none-match': '*' };
    const answers = await Promise.all(numbers(10).map(() => post(`/topics/${topic}`, '1', condition)));
    assert.deepEqual(answers.map(({ status }) => status).sort(), [201, ...Array(9).fill(412)]);
    await remove(broker.base, topic);
    assertProblem(await post(`/topics/${topic}`, '1', condition), 412, 'condition-failed');
  });

  test('they are refused where there are none, or malformed', async () => {
    const batch = { 'content-type': 'application/x-ndjson' };
    const { cursor } = await publish(broker.base, freshTopic(), 'x');
    const line = `{"topic":"${freshTopic()}","data":1}`;
    assertProblem(await post('/stream', line, { ...batch, 'if-match': `"${cursor}"` }), 400, 'condition-invalid');
    assertProblem(await post('/stream', line, { ...batch, 'if-none-match': '*' }), 400, 'condition-invalid');
    for (const value of ['"x"', '', '*', `"${cursor}", "${cursor}"`, `"${cursor}`]) {
      assertProblem(await post(`/topics/${freshTopic()}`, '1', { 'if-match': value }), 400, 'condition-invalid');
    }
  });
});

describe('idempotency', () => {
  let counter = 0;
  const freshKey = () => ({ 'idempotency-key': `"key ${process.pid} ${(counter += 1)}"` });

  test('a retry gets the first receipt, and stores nothing', async () => {
    const topic = freshTopic();
    const key = freshKey();
    const first = await post(`/topics/${topic}`, '1', key);
    assert.deepEqual([first.status, first.headers.get('idempotency-replayed')], [201, null]);
    const again = await post(`/topics/${topic}`, '1', key);
    assert.equal(again.status, 201);
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.deepEqual(again.json, first.json);
    assert.equal(again.headers.get('location'), first.headers.get('location'));
    assert.equal((await stored(topic)).length, 1);
  });

  test('of many at once, one is stored', async () => {
    const topic = freshTopic();
    const key = freshKey();
    const answers = await Promise.all(numbers(20).map(() => post(`/topics/${topic}`, '1', key)));
    assert.ok(answers.every(({ status }) => status === 201));
    assert.equal(new Set(answers.map(({ json }) => json.cursor)).size, 1);
    assert.equal(answers.filter(({ headers }) => headers.get('idempotency-replayed') === 'true').length, 19);
    assert.equal((await stored(topic)).length, 1);
  });

  test('another request under the same key is 422', async () => {
    const topic = freshTopic();
    const key = freshKey();
    await post(`/topics/${topic}`, '1', key);
    const others = [
      post(`/topics/${topic}`, '2', key),
      post(`/topics/${topic}/other`, '1', key),
      post(`/topics/${topic}?event=e`, '1', key),
      post(`/topics/${topic}`, '1', { ...key, 'content-type': 'text/plain' }),
      post(`/topics/${topic}`, '1', { ...key, 'tailwire-header-x': 'y' }),
      post(`/topics/${topic}`, '1', { ...key, 'content-type': 'application/x-ndjson' }),
    ];
    for (const answer of await Promise.all(others)) assertProblem(answer, 422, 'idempotency-key-reused');
    assert.equal((await stored(topic)).length, 1);
  });

  test('it is checked before preconditions', async () => {
    const topic = freshTopic();
    const headers = { ...freshKey(), 'if-none-match': '*' };
    const first = await post(`/topics/${topic}`, '1', headers);
    const again = await post(`/topics/${topic}`, '1', headers);
    assert.deepEqual([first.status, again.status, again.json.cursor], [201, 201, first.json.cursor]);
  });

  test('a publish whose condition failed does not use the key up', async () => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'x');
    await publish(broker.base, topic, 'y');
    const headers = { ...freshKey(), 'if-match': `"${cursor}"` };
    for (const _ of numbers(2)) assertProblem(await post(`/topics/${topic}`, '1', headers), 412, 'condition-failed');
  });

  test('one key for a batch', async () => {
    const topic = freshTopic();
    const key = freshKey();
    const first = await postLines(`${broker.base}/topics/${topic}`, [1, 2, 3], key);
    const again = await postLines(`${broker.base}/topics/${topic}`, [1, 2, 3], key);
    assert.deepEqual([again.status, again.json, again.headers.get('idempotency-replayed')], [201, first.json, 'true']);
    assertProblem(await postLines(`${broker.base}/topics/${topic}`, [1, 2], key), 422, 'idempotency-key-reused');
    assert.equal((await stored(topic)).length, 3);
  });

  for (const how of ['restart', 'crash']) {
    test(`the key outlives a ${how}`, async (t) => {
      const own = await Broker.start();
      t.after(() => own.stop());
      const topic = freshTopic();
      const headers = { ...freshKey(), 'content-type': 'text/plain' };
      const first = await publish(own.base, topic, 'x', headers);
      const batch = await postLines(`${own.base}/topics/${topic}`, [1, 2], { 'idempotency-key': '"batch"' });
      await own[how]();
      assert.deepEqual(await publish(own.base, topic, 'x', headers), first);
      const again = await postLines(`${own.base}/topics/${topic}`, [1, 2], { 'idempotency-key': '"batch"' });
      assert.deepEqual(again.json, batch.json);
      assert.equal((await readAll(own.base, `/topics/${topic}`)).length, 3);
    });
  }

  test('a key that is none is refused', async () => {
    for (const value of ['', '""', '"a', '"a"; b=c', `"${'x'.repeat(256)}"`]) {
      assertProblem(await post(`/topics/${freshTopic()}`, '1', { 'idempotency-key': value }), 400, 'idempotency-key-invalid');
    }
  });
});

describe('concurrent and sequential publishes', () => {
  test('pipelined requests of one connection are stored in order', async (t) => {
    const topic = freshTopic();
    const head = (n) =>
      `POST /topics/${topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${`${n}`.length}\r\n` +
      `${n === 199 ? 'Connection: close\r\n' : ''}\r\n${n}`;
    const text = await exchange(t, broker.port, numbers(200).map(head).join(''));
    assert.equal(text.match(/HTTP\/1\.1 201 /g).length, 200);
    assert.deepEqual((await stored(topic)).map(({ data }) => data), numbers(200).map(String));
  });

  test('a body in chunks is one message', async (t) => {
    const topic = freshTopic();
    const text = await exchange(
      t,
      broker.port,
      `POST /topics/${topic} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n`,
    );
    assert.match(text, /^HTTP\/1\.1 201 /);
    assert.equal((await stored(topic))[0].data, 'abc');
  });

  test('Expect: 100-continue is answered', async (t) => {
    const topic = freshTopic();
    const text = await exchange(
      t,
      broker.port,
      `POST /topics/${topic} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n` +
        'Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi',
    );
    assert.match(text, /HTTP\/1\.1 201 /);
  });

  test('the list of topics is paged', async () => {
    const root = freshTopic('paged');
    const names = numbers(25).map((n) => `${root}/${String(n).padStart(2, '0')}`);
    await Promise.all(names.map((name) => publishBatch(broker.base, name, [1, 2])));
    const seen = [];
    let url = `${broker.base}/topics?prefix=${root}/&limit=10`;
    while (url) {
      const page = await request(url);
      assert.equal(page.status, 200);
      assert.ok(page.json.topics.length <= 10);
      seen.push(...page.json.topics);
      url = nextLink(page, url);
    }
    assert.deepEqual(seen.map(({ topic }) => topic), names);
    assert.ok(seen.every(({ messages }) => messages === 2));
  });
});
