// Every request of HTTP has its twin on a WebSocket, with the same codes; and what a broken or hostile client gets.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { CURSOR, freshTopic, publish, publishBatch, readAll, remove, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { closeCode, frame, rawWebSocket } from './support/raw.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

const connect = (t, path, options) => LineSocket.open(t, broker.base, path, options);
const numbers = (count) => Array.from({ length: count }, (_, index) => index);

describe('requests', () => {
  test('a publish gives the receipt; what is stored is what HTTP would have stored', async (t) => {
    const socket = await connect(t);
    const topic = freshTopic();
    const options = { event: 'tick', key: 'k', headers: { 'Trace-Id': 'x' } };
    const sent = [
      { data: { a: [1, 'ž'] }, type: 'application/json', ...options },
      { data: { a: 2 } },
      { data: 'text\n', type: 'text/plain' },
      { data: '/wA=', encoding: 'base64', type: 'image/png' },
    ];
    const receipts = [];
    for (const message of sent) receipts.push(await socket.ask({ kind: 'publish', topic, ...message }));
    for (const receipt of receipts) {
      assert.equal(receipt.kind, 'ok');
      assert.match(receipt.cursor, CURSOR);
      assert.equal(receipt.topic, topic);
      assert.match(receipt.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    }
    const stored = await readAll(broker.base, `/topics/${topic}`);
    assert.deepEqual(stored.map(({ data }) => data), sent.map(({ data }) => data));
    assert.deepEqual(stored.map(({ type }) => type), ['application/json', 'application/json', 'text/plain', 'image/png']);
    assert.deepEqual([stored[0].event, stored[0].key, stored[0].headers], ['tick', 'k', { 'trace-id': 'x' }]);
    const image = await request(`${broker.base}/messages/${receipts[3].cursor}`);
    assert.deepEqual([...image.bytes], [255, 0]);
  });

  test('a batch is stored all or none', async (t) => {
    const socket = await connect(t);
    const root = freshTopic();
    const messages = [{ topic: `${root}/a`, data: 1 }, { topic: `${root}/b`, data: 'x', type: 'text/plain' }];
    const ok = await socket.ask({ kind: 'publish', messages });
    assert.deepEqual(ok.receipts.map(({ topic }) => topic), [`${root}/a`, `${root}/b`]);
    assert.equal((await readAll(broker.base, `/topics/${root}/*`)).length, 2);
    const refused = await socket.ask({ kind: 'publish', messages: [...messages, { topic: `${root}//c`, data: 1 }] });
    assert.deepEqual([refused.kind, refused.status, refused.line], ['error', 400, 3]);
    assert.equal((await readAll(broker.base, `/topics/${root}/*`)).length, 2);
  });

  test('a page is the page of HTTP', async (t) => {
    const socket = await connect(t);
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(7));
    const where = { topic, after: receipts[1].cursor, limit: 3 };
    const { kind, id, ...page } = await socket.ask({ kind: 'page', ...where });
    assert.deepEqual([kind, typeof id], ['ok', 'number']);
    const { json } = await request(`${broker.base}/topics/${topic}?after=${where.after}&limit=3`);
    assert.deepEqual(page, json);
    assert.equal(page.more, true);
    const all = await socket.ask({ kind: 'page', topic });
    assert.deepEqual(all.messages.map(({ data }) => data), numbers(7));
    const several = await socket.ask({ kind: 'page', topic: [topic, freshTopic()], last: 2 });
    assert.deepEqual(several.messages.map(({ data }) => data), [5, 6]);
    const empty = await socket.ask({ kind: 'page', topic, after: 'latest' });
    assert.deepEqual([empty.messages, empty.more], [[], false]);
    assert.ok(empty.retry_after_ms > 0);
  });

  test('a page can wait, while other requests are answered', async (t) => {
    const socket = await connect(t);
    const topic = freshTopic();
    const waiting = socket.ask({ kind: 'page', topic, wait: 20 });
    assert.equal((await socket.ask({ kind: 'topics' })).kind, 'ok');
    const receipt = await socket.ask({ kind: 'publish', topic, data: 1 });
    const page = await waiting;
    assert.deepEqual(page.messages.map(({ cursor }) => cursor), [receipt.cursor]);
  });

  test('topics, message and delete', async (t) => {
    const socket = await connect(t);
    const root = freshTopic();
    const receipts = [];
    for (const name of ['a', 'b', 'c']) receipts.push(await publish(broker.base, `${root}/${name}`, name));
    const list = await socket.ask({ kind: 'topics', prefix: `${root}/`, limit: 2 });
    const { json } = await request(`${broker.base}/topics?prefix=${root}/&limit=2`);
    assert.deepEqual(list.topics, json.topics);
    assert.deepEqual(list.topics.map(({ topic }) => topic), [`${root}/a`, `${root}/b`]);
    const message = await socket.ask({ kind: 'message', cursor: receipts[1].cursor });
    assert.equal(message.kind, 'ok');
    assert.ok(JSON.stringify(message).includes('"data":"b"'), JSON.stringify(message));
    assert.equal((await socket.ask({ kind: 'delete', topic: `${root}/b` })).kind, 'ok');
    const gone = await socket.ask({ kind: 'message', cursor: receipts[1].cursor });
    assert.deepEqual([gone.status, gone.code], [410, 'message-gone']);
  });

  test('idempotency and conditions', async (t) => {
    const socket = await connect(t);
    const topic = freshTopic();
    const publishing = { kind: 'publish', topic, data: 1, idempotency_key: `k-${topic}`, if_none_match: '*' };
    const first = await socket.ask(publishing);
    const again = await socket.ask(publishing);
    assert.equal(first.kind, 'ok');
    assert.deepEqual([again.kind, again.cursor, again.time], ['ok', first.cursor, first.time]);
    const other = await socket.ask({ ...publishing, data: 2 });
    assert.deepEqual([other.status, other.code], [422, 'idempotency-key-reused']);
    const second = await socket.ask({ kind: 'publish', topic, data: 2, if_match: first.cursor });
    assert.equal(second.kind, 'ok');
    const late = await socket.ask({ kind: 'publish', topic, data: 3, if_match: first.cursor });
    assert.deepEqual([late.status, late.code, late.cursor], [412, 'condition-failed', second.cursor]);
    assert.equal((await readAll(broker.base, `/topics/${topic}`)).length, 2);
  });

  test('a subscription and a page that have a gap are told', async (t) => {
    const socket = await connect(t);
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(3));
    await remove(broker.base, topic);
    const page = await socket.ask({ kind: 'page', topic, after: receipts[0].cursor });
    assert.deepEqual([page.kind, page.status, page.code, page.reason], ['error', 410, 'gap', 'deleted']);
    assert.deepEqual([page.from, page.to], [receipts[0].cursor, receipts[2].cursor]);
    const known = await socket.ask({ kind: 'page', topic, after: page.from, gap: page.to });
    assert.deepEqual([known.kind, known.messages], ['ok', []]);
    assert.equal((await socket.ask({ kind: 'subscribe', id: 1, topic, after: receipts[0].cursor })).kind, 'ok');
    const gap = await socket.line();
    assert.deepEqual(gap, { sub: 1, kind: 'gap', from: receipts[0].cursor, to: receipts[2].cursor, reason: 'deleted' });
  });
});

describe('the same codes as HTTP', () => {
  const tooLong = 'x'.repeat(256);
  const post = (path, headers = {}, body = '1') => [path, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } }];
  const TWINS = [
    { line: { kind: 'publish', topic: 'a//b', data: 1 }, http: post('/topics/a//b') },
    { line: { kind: 'publish', topic: tooLong, data: 1 }, http: post(`/topics/${tooLong}`) },
    { line: { kind: 'publish', topic: 'a/*', data: 1 }, http: post('/topics/a/*') },
    { line: { kind: 'publish', topic: '$sys/x', data: 1 }, http: post('/topics/$sys/x') },
    { line: { kind: 'publish', topic: 'a', data: 1, event: 'open' }, http: post('/topics/a?event=open') },
    { line: { kind: 'publish', topic: 'a', data: 1, key: tooLong }, http: post(`/topics/a?key=${tooLong}`) },
    { line: { kind: 'publish', topic: 'a', data: 1, type: 'nonsense' }, http: post('/topics/a', { 'content-type': 'nonsense' }) },
    { line: { kind: 'publish', topic: 'a', data: 1, if_match: 'x' }, http: post('/topics/a', { 'if-match': '"x"' }) },
    { line: { kind: 'publish', topic: 'a', data: 1, idempotency_key: tooLong }, http: post('/topics/a', { 'idempotency-key': `"${tooLong}"` }) },
    { line: { kind: 'page', topic: 'a//b' }, http: ['/topics/a//b'] },
    { line: { kind: 'page', topic: 'a', after: '0' }, http: ['/topics/a?after=0'] },
    { line: { kind: 'page', topic: 'a', limit: 0 }, http: ['/topics/a?limit=0'] },
    { line: { kind: 'page', topic: 'a', after: 'latest', last: 1 }, http: ['/topics/a?after=latest&last=1'] },
    { line: { kind: 'page', topic: numbers(101).map((n) => `t${n}`) }, http: [`/stream?${numbers(101).map((n) => `topic=t${n}`).join('&')}`] },
    { line: { kind: 'subscribe', topic: 'a', after: '0' }, http: ['/topics/a?after=0&format=ndjson'] },
    { line: { kind: 'subscribe', topic: 'a/b*' }, http: ['/topics/a/b*?format=ndjson'] },
    { line: { kind: 'delete', topic: 'a/**' }, http: ['/topics/a/**', { method: 'DELETE' }] },
    { line: { kind: 'delete', topic: '$sys' }, http: ['/topics/$sys', { method: 'DELETE' }] },
    { line: { kind: 'topics', limit: -1 }, http: ['/topics?limit=-1'] },
    { line: { kind: 'message', cursor: '0' }, http: ['/messages/0'] },
    { line: { kind: 'message', cursor: '00000000-00000000001' }, http: ['/messages/00000000-00000000001'] },
  ];
  for (const { line, http } of TWINS) {
    test(`${JSON.stringify(line).slice(0, 90)}`, async (t) => {
      const socket = await connect(t);
      const twin = await request(broker.base + http[0], http[1]);
      assert.ok(twin.status >= 400, `${twin.status}`);
      const answer = await socket.ask(line);
      assert.deepEqual([answer.kind, answer.status, answer.code], ['error', twin.json.status, twin.json.code]);
      assert.equal(answer.title, twin.json.title);
      assert.equal((await socket.ask({ kind: 'topics' })).kind, 'ok');
    });
  }

  test('a message that is too large', async (t) => {
    const socket = await connect(t);
    const data = 'x'.repeat((1 << 20) + 1);
    const answer = await socket.ask({ kind: 'publish', topic: freshTopic(), data, type: 'text/plain' });
    assert.deepEqual([answer.status, answer.code], [413, 'message-too-large']);
  });
});

describe('lines that are none', () => {
  const BROKEN = [
    '',
    'x',
    '[]',
    'null',
    '{"kind":"publish"',
    '{"kind":"nonsense","id":1}',
    '{"id":1}',
    '{"kind":"topics","id":{}}',
    '[[[['.repeat(5000),
  ];
  test('are answered with an error, and the socket stays open', async (t) => {
    const socket = await connect(t);
    for (const line of BROKEN) {
      socket.send(line);
      const answer = await socket.line();
      assert.deepEqual([answer.kind, answer.status], ['error', 400], line.slice(0, 50));
      assert.match(answer.code, /^line-(invalid|unknown)$/);
    }
    assert.equal((await socket.ask({ kind: 'topics' })).kind, 'ok');
  });

  test('requests one after the other are all answered, far beyond the bound on pending ones', async (t) => {
    const socket = await connect(t);
    const topic = freshTopic();
    const asked = numbers(500).map(() => socket.ask({ kind: 'page', topic, wait: 1 }));
    const receipt = publish(broker.base, topic, 'x');
    assert.ok((await Promise.all(asked)).every(({ kind }) => kind === 'ok'));
    await receipt;
  });
});

describe('frames', () => {
  test('a ping is answered with its payload', async (t) => {
    const socket = await connect(t);
    const pong = new Promise((resolve) => socket.socket.once('pong', (data) => resolve(data.toString())));
    socket.socket.ping('are you there');
    assert.equal(await pong, 'are you there');
  });

  test('a line may come in fragments, with a ping between them', async (t) => {
    const socket = await connect(t);
    const topic = freshTopic();
    const line = Buffer.from(JSON.stringify({ kind: 'publish', id: 1, topic, data: 'ž日🦀' }));
    for (let at = 0; at < line.length; at += 1) {
      socket.socket.send(line.subarray(at, at + 1), { binary: false, fin: at === line.length - 1 });
      if (at === 10) socket.socket.ping();
    }
    assert.equal((await socket.line()).kind, 'ok');
    assert.equal((await readAll(broker.base, `/topics/${topic}`))[0].data, 'ž日🦀');
  });

  test('a close is answered with its code', async (t) => {
    const socket = await connect(t);
    socket.socket.close(1000, 'done');
    assert.equal((await socket.closed).code, 1000);
  });

  const ENDS = [
    { name: 'a line that is too long', code: 1009, send: (socket) => socket.send('x'.repeat(socket.welcome.limits.line_bytes + 1)) },
    { name: 'a line that is not UTF-8', code: 1007, send: (socket) => socket.socket.send(Buffer.from([0x22, 0xff, 0x22]), { binary: false }) },
    { name: 'a binary message', code: 1003, send: (socket) => socket.socket.send(Buffer.from('{}')) },
  ];
  for (const { name, code, send } of ENDS) {
    test(`${name} ends it with ${code}`, async (t) => {
      const socket = await connect(t);
      send(socket);
      assert.equal((await socket.closed).code, code);
    });
  }

  const fragment = frame(0, 'x'.repeat(1 << 20), { fin: false });
  const endless = Buffer.concat([frame(1, 'x', { fin: false }), fragment, fragment, fragment]);
  const HOSTILE = [
    { name: 'without a mask', bytes: frame(1, '{}', { masked: false }), code: 1002 },
    { name: 'with a reserved bit', bytes: frame(1, '{}', { rsv: 4 }), code: 1002 },
    { name: 'of an unknown kind', bytes: frame(3, '{}'), code: 1002 },
    { name: 'that goes on with nothing', bytes: frame(0, '{}'), code: 1002 },
    { name: 'that controls in fragments', bytes: frame(9, 'x', { fin: false }), code: 1002 },
    { name: 'that controls at length', bytes: frame(9, 'x'.repeat(126)), code: 1002 },
    { name: 'that claims to be endless', bytes: frame(1, '{}', { length: 2 ** 52 }), code: 1009 },
    { name: 'in endless fragments', bytes: endless, code: 1009 },
  ];
  for (const { name, bytes, code } of HOSTILE) {
    test(`a frame ${name} ends it with ${code}`, async (t) => {
      const raw = await rawWebSocket(t, broker.port);
      await raw.send(bytes);
      await raw.end();
      assert.equal(closeCode(raw), code);
      assert.equal((await request(`${broker.base}/healthz`)).status, 200);
    });
  }
});
