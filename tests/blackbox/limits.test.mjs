// How much one address, one principal, or all together may do: each kind over every transport, and nobody at another's expense.
// A burst is larger than what comes to be allowed while it lasts, however slow the machine: what passes is held to the time it took.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import { connect } from 'node:http2';
import path from 'node:path';
import { describe, test } from 'node:test';
import tls from 'node:tls';

import { Broker, configured, emptyFolder, eventually, run } from './support/broker.mjs';
import { assertProblem, freshTopic, postLines, publish, readAll, request, requestBy } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { Raw } from './support/raw.mjs';
import { as, granting, SECTION } from './support/tokens.mjs';

let addresses = 0;
/** The header by which a proxy names a client that no other test is. */
const fresh = () => ({ 'x-forwarded-for': `203.0.113.${(addresses += 1)}` });

/** A broker behind a proxy, which is the test: each client has an address of its own. */
const limited = (t, limits, more = '') =>
  configured(t, `listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\ntrusted_proxies = ["127.0.0.1"]\n${more}\n${limits}`);

/** All answers of a burst, and the seconds that it took. */
async function burst(count, one) {
  const began = performance.now();
  const answers = await Promise.all(Array.from({ length: count }, (_, n) => one(n)));
  return { answers, seconds: (performance.now() - began) / 1000 };
}

/** Asserts that of a burst as much passed as a rate lets through, and that the rest was refused by this limit. */
function assertLimited({ answers, seconds }, { quota, window = 1, policy }, each = () => 1) {
  const isRefused = ({ status }) => status === 429;
  const passed = answers.filter((answer) => !isRefused(answer));
  for (const answer of passed) assert.ok(answer.status < 300, JSON.stringify(answer));
  const amount = passed.reduce((sum, answer) => sum + each(answer), 0);
  const most = quota * (1 + seconds / window) + 1;
  assert.ok(amount >= Math.min(quota, answers.length) && amount <= most, `${amount} passed, and ${quota} to ${most} may`);
  const refused = answers.filter(isRefused);
  assert.ok(refused.length > 0, `nothing was refused in ${seconds} s`);
  for (const { code, violated, retry } of refused) {
    assert.deepEqual([code, violated], ['rate-limited', [policy]]);
    assert.ok(retry > 0 && retry <= window * 1000 * Math.max(1, answers.length), `${retry} ms`);
  }
  return passed.length;
}

const ofProblem = (json) => ({ code: json?.code, violated: json?.['violated-policies'], retry: json?.retry_after_ms });
const ofAnswer = ({ status, json }) => ({ status, ...ofProblem(json) });
const ofLine = (line) => (line.kind === 'ok' ? { status: 200 } : { status: line.status, ...ofProblem(line) });

/** Requests of one HTTP/2 connection, at once; gives what is asked for by each. */
async function overHttp2(base, count, headers, body) {
  const session = connect(base);
  await once(session, 'connect');
  try {
    return await burst(count, async (n) => {
      const stream = session.request({ ...headers, ':path': headers[':path'].replace('#', n) });
      stream.end(body);
      const [head] = await once(stream, 'response');
      let text = '';
      for await (const chunk of stream) text += chunk;
      return { status: head[':status'], ...ofProblem(head[':status'] === 429 ? JSON.parse(text) : {}) };
    });
  } finally {
    session.destroy();
  }
}

/** Requests in one write over one connection of HTTP/1.1, and their answers. */
async function pipelined(t, port, count, head, body = '') {
  const raw = await Raw.open(t, port);
  const one = `${head}\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const began = performance.now();
  await raw.send(one.repeat(count));
  await raw.until(({ text }) => (text.match(/HTTP\/1\.1 \d{3} /g) ?? []).length === count);
  const seconds = (performance.now() - began) / 1000;
  raw.close();
  const parts = raw.text.split(/HTTP\/1\.1 (?=\d{3} )/).slice(1);
  const answers = parts.map((part) => ({
    status: Number(part.slice(0, 3)),
    ...ofProblem(part.startsWith('429') ? JSON.parse(part.slice(part.indexOf('\r\n\r\n'))) : {}),
  }));
  return { answers, seconds };
}

describe('requests', () => {
  const limit = { quota: 20, policy: 'address-requests' };
  const settings = '[limits.address]\nrequests_per_second = 20';

  test('are limited over HTTP, whatever they ask for', async (t) => {
    const broker = await limited(t, settings);
    await publish(broker.base, 'there', 'x');
    for (const [method, target] of [
      ['GET', '/topics/there'],
      ['HEAD', '/topics/there'],
      ['GET', '/topics/there?format=atom'],
      ['GET', '/topics/there?format=jsonfeed'],
      ['GET', '/topics/there?format=raw'],
      ['GET', '/topics'],
      ['OPTIONS', '/stream'],
      ['DELETE', '/topics/none'],
      ['GET', '/openapi.json'],
    ]) {
      const headers = fresh();
      const asked = await burst(200, async () => ofAnswer(await request(broker.base + target, { method, headers })));
      if (method === 'HEAD') asked.answers.forEach((one) => one.status === 429 && Object.assign(one, { code: 'rate-limited', violated: [limit.policy], retry: 1 }));
      assertLimited(asked, limit);
    }
  });

  test('are limited over HTTP/2, pipelined, and as lines of a WebSocket', async (t) => {
    const broker = await limited(t, settings);
    assertLimited(await overHttp2(broker.base, 200, { ':path': '/topics/a', ...fresh() }), limit);
    const [[name, value]] = Object.entries(fresh());
    assertLimited(await pipelined(t, broker.port, 200, `GET /topics/a HTTP/1.1\r\n${name}: ${value}`), limit);
    const socket = await LineSocket.open(t, broker.base, '/stream', { headers: fresh() });
    for (const line of [{ kind: 'page', topic: 'a' }, { kind: 'topics' }, { kind: 'nonsense' }]) {
      await eventually(async () => (await socket.ask({ kind: 'page', topic: 'a' })).kind === 'ok', 'it stays refused');
      const asked = await burst(200, async () => ofLine(await socket.ask(line)));
      const refused = asked.answers.filter(({ code }) => code === 'rate-limited');
      assert.ok(refused.length > 0 && asked.answers.length - refused.length <= 20 * (1 + asked.seconds) + 1, line.kind);
    }
    // To ask for less is free, and the connection goes on.
    const { answers } = await burst(100, async () => ofLine(await socket.ask({ kind: 'unsubscribe', sub: 7 })));
    assert.ok(answers.every(({ code }) => code === 'subscription-unknown'));
  });

  test('an EventSource is told to come back by a stream that ends', async (t) => {
    const broker = await limited(t, settings);
    const headers = { accept: 'text/event-stream', ...fresh() };
    const asked = await burst(200, () => request(`${broker.base}/topics`, { headers }));
    const byes = asked.answers.filter(({ text }) => /event: tailwire\.bye/.test(text));
    assert.ok(byes.length > 0);
    for (const { status, text } of byes) {
      assert.equal(status, 200);
      assert.match(text, /^retry: \d+\n/);
      assert.match(text, /"reason":"limited"/);
    }
  });

  test('health is asked for as often as one likes, and so is everything without limits', async (t) => {
    const broker = await limited(t, settings);
    const headers = fresh();
    for (const target of ['/healthz', '/readyz']) {
      const { answers } = await burst(200, () => request(broker.base + target, { headers }));
      assert.ok(answers.every(({ status }) => status === 200));
    }
    const metrics = await burst(100, () => request(`${broker.operations}/metrics`));
    assert.ok(metrics.answers.every(({ status }) => status === 200));
    const free = await configured(t, 'listen = "127.0.0.1:0"');
    const topic = freshTopic();
    const { answers } = await burst(2000, () => request(`${free.base}/topics/${topic}`, { method: 'POST', body: 'x' }));
    assert.ok(answers.every(({ status }) => status === 201));
  });
});

describe('publishes', () => {
  const limit = { quota: 10, policy: 'address-publishes' };
  const settings = '[limits.address]\npublishes_per_second = 10';
  const stored = async (broker, topic) => (await readAll(broker.base, `/topics/${topic}`)).length;

  test('are limited over every transport, and the refused are not stored', async (t) => {
    const broker = await limited(t, settings);
    const over = {
      async post(topic) {
        const headers = fresh();
        return burst(150, async () => ofAnswer(await request(`${broker.base}/topics/${topic}`, { method: 'POST', body: 'x', headers })));
      },
      async pipelined(topic) {
        const [[name, value]] = Object.entries(fresh());
        return pipelined(t, broker.port, 150, `POST /topics/${topic} HTTP/1.1\r\n${name}: ${value}`, 'x');
      },
      async http2(topic) {
        return overHttp2(broker.base, 150, { ':path': `/topics/${topic}`, ':method': 'POST', ...fresh() }, 'x');
      },
      async lines(topic) {
        const socket = await LineSocket.open(t, broker.base, '/stream', { headers: fresh() });
        return burst(150, async () => ofLine(await socket.ask({ kind: 'publish', topic, data: 'x' })));
      },
    };
    for (const [name, publishes] of Object.entries(over)) {
      const topic = freshTopic(name);
      const passed = assertLimited(await publishes(topic), limit);
      assert.equal(await stored(broker, topic), passed, name);
    }
  });

  test('count in batches by message; a batch passes whole, and the next ones pay for it', async (t) => {
    const broker = await limited(t, settings);
    const values = Array.from({ length: 600 }, (_, n) => n);
    const topic = freshTopic('batches');
    const headers = fresh();
    assert.equal((await postLines(`${broker.base}/topics/${topic}`, values, headers)).status, 201);
    const next = ofAnswer(await postLines(`${broker.base}/topics/${topic}`, [1], headers));
    assert.deepEqual([next.status, next.violated], [429, ['address-publishes']]);
    // A minute's worth, less what has gone by.
    assert.ok(next.retry > 30_000 && next.retry <= 60_000, `${next.retry}`);
    const line = { topic, data: 'x' };
    const stream = fresh();
    assert.equal((await postLines(`${broker.base}/stream`, Array(600).fill(line), stream)).status, 201);
    assert.equal((await postLines(`${broker.base}/stream`, [line], stream)).status, 429);
    const socket = await LineSocket.open(t, broker.base, '/stream', { headers: fresh() });
    assert.equal((await socket.ask({ kind: 'publish', messages: Array(600).fill(line) })).kind, 'ok');
    assert.equal((await socket.ask({ kind: 'publish', messages: [line] })).code, 'rate-limited');
    assert.equal(await stored(broker, topic), 1800);
  });

  test('count by bytes', async (t) => {
    const broker = await limited(t, '[limits.address]\nbytes_per_second = 10_000');
    const headers = fresh();
    const topic = freshTopic('bytes');
    const ask = (body) => request(`${broker.base}/topics/${topic}`, { method: 'POST', body, headers });
    assert.equal((await ask('x'.repeat(500_000))).status, 201);
    const refused = await ask('x');
    const { retry_after_ms } = assertProblem(refused, 429, 'rate-limited');
    assert.ok(retry_after_ms > 20_000 && retry_after_ms <= 50_000, `${retry_after_ms}`);
    assert.equal(refused.headers.get('ratelimit-policy'), '"address-bytes";q=10000;qu="content-bytes";w=1');
    const socket = await LineSocket.open(t, broker.base, '/stream', { headers: fresh() });
    assert.equal((await socket.ask({ kind: 'publish', topic, data: 'x'.repeat(500_000) })).kind, 'ok');
    assert.deepEqual((await socket.ask({ kind: 'publish', topic, data: 'x' }))['violated-policies'], ['address-bytes']);
  });

  test('begin so many topics a minute, and go on in those that there are', async (t) => {
    const broker = await limited(t, '[limits.address]\nnew_topics_per_minute = 5');
    const headers = fresh();
    const root = freshTopic('new');
    const ask = async (name) => ofAnswer(await request(`${broker.base}/topics/${root}/${name}`, { method: 'POST', body: 'x', headers }));
    const asked = await burst(40, ask);
    assertLimited(asked, { quota: 5, window: 60, policy: 'address-new-topics' });
    const there = asked.answers.findIndex(({ status }) => status === 201);
    // Sent at once, before any of them is committed, they begin one topic.
    const again = await burst(50, () => ask(there));
    assert.ok(again.answers.every(({ status }) => status === 201));
    const other = fresh();
    const one = await burst(50, async () => ofAnswer(await request(`${broker.base}/topics/${root}/one`, { method: 'POST', body: 'x', headers: other })));
    assert.ok(one.answers.every(({ status }) => status === 201));
    const lines = Array.from({ length: 50 }, (_, n) => ({ topic: `${root}/batch/${n}`, data: 1 }));
    const third = fresh();
    assert.equal((await postLines(`${broker.base}/stream`, lines, third)).status, 201, 'it begins within the quota');
    assert.equal((await postLines(`${broker.base}/stream`, lines, third)).status, 201, 'these there are');
    assert.equal((await postLines(`${broker.base}/stream`, [{ topic: `${root}/more`, data: 1 }], third)).status, 429);
  });
});

describe('what is open', () => {
  /** A stream that is open until it is closed; or the answer in its place. */
  async function opened(t, url, headers) {
    const abort = new AbortController();
    t.after(() => abort.abort());
    const response = await fetch(url, { headers, signal: abort.signal });
    const isStream = response.status === 200 && /ndjson|event-stream/.test(response.headers.get('content-type'));
    if (!isStream) return { status: response.status, ...ofProblem(await response.json()) };
    const reader = response.body.getReader();
    let text = '';
    // The head of a stream comes with its first event.
    while (!/\n\n|\}\n/.test(text)) text += new TextDecoder().decode((await reader.read()).value);
    return { status: 200, text, close: () => abort.abort() };
  }

  test('subscriptions count over every transport until they end', async (t) => {
    const broker = await limited(t, '[limits.address]\nsubscriptions = 2');
    const headers = fresh();
    const topic = freshTopic('open');
    const url = `${broker.base}/topics/${topic}`;
    const sse = await opened(t, `${url}?format=sse`, headers);
    const ndjson = await opened(t, `${url}?format=ndjson`, headers);
    assert.match(sse.text, /tailwire\.open/);
    const refused = { status: 429, code: 'rate-limited', violated: ['address-subscriptions'] };
    const assertRefused = ({ status, code, violated, retry }) => {
      assert.deepEqual({ status, code, violated }, refused);
      assert.ok(retry > 2500 && retry < 7500, `${retry}`);
    };
    assertRefused(await opened(t, `${url}?format=ndjson`, headers));
    assert.match((await opened(t, `${url}?format=sse`, headers)).text, /tailwire\.bye[^]*"reason":"limited"/);
    const poll = await request(`${url}?wait=20`, { headers });
    assertRefused(ofAnswer(poll));
    assert.equal(poll.headers.get('ratelimit-policy'), '"address-subscriptions";q=2;qu="concurrent-requests"');
    assert.equal(poll.headers.get('ratelimit'), '"address-subscriptions";r=0');
    assertRefused(ofAnswer(await request(`${url}?format=raw&wait=20`, { headers: { ...headers, 'if-none-match': '"01lfllg0-00000000001"' } })));
    await assert.rejects(LineSocket.open(t, broker.base, `/topics/${topic}`, { headers }), { status: 429 });
    const socket = await LineSocket.open(t, broker.base, '/stream', { headers });
    assertRefused(ofLine(await socket.ask({ kind: 'subscribe', topic })));
    assertRefused(ofLine(await socket.ask({ kind: 'page', topic, wait: 20 })));
    // A page that doesn't wait is none.
    assert.equal((await request(url, { headers })).status, 202);
    assert.equal((await request(url, { method: 'HEAD', headers: { ...headers, accept: 'text/event-stream' } })).status, 200);

    ndjson.close();
    const id = 'one';
    await eventually(async () => (await socket.ask({ kind: 'subscribe', topic, id })).kind === 'ok', 'it counts on');
    assertRefused(ofLine(await socket.ask({ kind: 'subscribe', topic })));
    assert.equal((await socket.ask({ kind: 'unsubscribe', sub: id })).kind, 'ok');
    // One that is refused for another reason counts no more, either.
    for (let n = 0; n < 5; n += 1) {
      assert.equal((await socket.ask({ kind: 'subscribe', topic: [], id })).kind, 'error');
    }
    assert.equal((await socket.ask({ kind: 'subscribe', topic, id })).kind, 'ok');
    socket.socket.terminate();
    sse.close();
    await eventually(async () => (await opened(t, `${url}?format=ndjson`, headers)).status === 200, 'it counts on');
    // A poll counts while it waits, and no longer.
    const { cursor } = await publish(broker.base, topic, 'before the poll');
    let waits;
    await eventually(async () => {
      // What was closed just now may still count, and then the poll is refused at once.
      waits ??= request(`${url}?wait=20&after=${cursor}`, { headers });
      waits.then(({ status }) => status === 429 && (waits = undefined));
      const one = await opened(t, `${url}?format=ndjson`, headers);
      one.close?.();
      return waits && one.status === 429;
    }, 'the poll does not count');
    await publish(broker.base, topic, 'for the poll');
    assert.equal((await waits).status, 200);
    const last = await eventually(async () => {
      const one = await opened(t, `${url}?format=ndjson`, headers);
      return one.status === 200 && one;
    }, 'the poll counts on');
    last.close();
    // Over HTTP/2 a stream is one like others.
    const session = connect(broker.base);
    t.after(() => session.destroy());
    await eventually(async () => {
      const stream = session.request({ ':path': `/topics/${topic}?format=ndjson`, ...headers });
      const [head] = await once(stream, 'response');
      if (head[':status'] !== 200) stream.resume();
      return head[':status'] === 200;
    }, 'no stream over HTTP/2');
    assertRefused(await opened(t, `${url}?format=ndjson`, headers));
    session.destroy();
    await eventually(async () => (await opened(t, `${url}?format=ndjson`, headers)).status === 200, 'it counts on');
  });

  test('connections of one address: one too many is told so, and closed', async (t) => {
    const broker = await configured(t, 'listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n[limits.address]\nconnections = 5');
    const topic = freshTopic('connections');
    // All that become something else count on: WebSockets, streams, HTTP/2.
    const socket = await eventually(() => LineSocket.open(t, broker.base).catch(() => undefined), 'no connection');
    const stream = await Raw.open(t, broker.port);
    await stream.send(`GET /topics/${topic}?format=ndjson HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await stream.until(/caught_up/);
    const session = connect(broker.base);
    await once(session, 'connect');
    t.after(() => session.destroy());
    const idle = [];
    for (;;) {
      const raw = await Raw.open(t, broker.port);
      await raw.send('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await raw.until(/^HTTP\/1\.1 \d+/);
      if (!/200 OK/.test(raw.text)) break;
      idle.push(raw);
    }
    // Beside these, there may be one or two of fetch, which asked whether the broker is ready.
    assert.ok(idle.length >= 1 && idle.length <= 2, `${idle.length}`);
    const refused = await Raw.open(t, broker.port);
    const text = await refused.end();
    assert.match(text, /^HTTP\/1\.1 429 Too Many Requests\r\n/);
    assert.match(text, /\r\nconnection: close\r\n/);
    assert.match(text, /\r\nretry-after: [4-7]\r\n/);
    assert.match(text, /"violated-policies":\["address-connections"\]/);
    // Each that ends makes room for another.
    const isIn = async () => {
      const raw = await Raw.open(t, broker.port);
      raw.send('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      return /200 OK/.test(await raw.end());
    };
    for (const close of [() => socket.socket.terminate(), () => stream.close(), () => session.destroy(), () => idle[0].close()]) {
      close();
      await eventually(isIn, 'it counts on');
    }
    assert.match(await broker.metrics(), /tailwire_limited_total\{limit="address",kind="connections"\} [1-9]/);
  });

  test('connects are limited, and then let in again', async (t) => {
    const broker = await configured(t, 'listen = "127.0.0.1:0"\n[limits.address]\nconnects_per_second = 10');
    const isIn = async () => {
      const raw = await Raw.open(t, broker.port);
      raw.send('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      const text = await raw.end();
      return { status: /200 OK/.test(text) ? 200 : 429, refused: /"violated-policies":\["address-connects"\]/.test(text) };
    };
    const { answers, seconds } = await burst(300, isIn);
    const passed = answers.filter(({ status }) => status === 200).length;
    assert.ok(passed >= 5 && passed <= 10 * (1 + seconds) + 1, `${passed} in ${seconds} s`);
    assert.ok(answers.some(({ refused }) => refused));
    await eventually(async () => (await isIn()).status === 200, 'it stays refused');
  });

  test('all together', async (t) => {
    const broker = await limited(t, '[limits.total]\nsubscriptions = 1\npublishes_per_second = 10');
    const topic = freshTopic('total');
    const one = await opened(t, `${broker.base}/topics/${topic}?format=ndjson`, fresh());
    assert.equal(one.status, 200);
    const two = await opened(t, `${broker.base}/topics/${topic}?format=ndjson`, fresh());
    assert.deepEqual(two.violated, ['total-subscriptions']);
    const published = await burst(150, async () => ofAnswer(await request(`${broker.base}/topics/${topic}`, { method: 'POST', body: 'x', headers: fresh() })));
    const refused = published.answers.filter(({ status }) => status === 429);
    assert.ok(refused.length > 0 && refused.every(({ violated }) => violated[0] === 'total-publishes'));
    assert.ok(150 - refused.length <= 10 * (1 + published.seconds) + 1);
  });
});

describe('a client', () => {
  test('is one address, or a network of 64 bits of IPv6', async (t) => {
    const broker = await limited(t, '[limits.address]\nnew_topics_per_minute = 1');
    const root = freshTopic('who');
    let topics = 0;
    const ask = async (client) => {
      const url = `${broker.base}/topics/${root}/${(topics += 1)}`;
      return (await request(url, { method: 'POST', body: 'x', headers: { 'x-forwarded-for': client } })).status;
    };
    assert.deepEqual([await ask('198.51.100.1'), await ask('198.51.100.1')], [201, 429]);
    assert.equal(await ask('198.51.100.2'), 201);
    assert.equal(await ask('::ffff:198.51.100.2'), 429, 'the same address');
    assert.equal(await ask('2001:db8:1:1::1'), 201);
    assert.equal(await ask('2001:db8:1:1:ffff::2'), 429, 'the same network');
    assert.equal(await ask('2001:db8:1:2::1'), 201);
    // In front of what the proxy adds a client may write what it likes.
    assert.equal(await ask('192.0.2.1, 198.51.100.1'), 429);
    const socket = await LineSocket.open(t, broker.base, '/stream', { headers: { 'x-forwarded-for': '2001:db8:1:2::9' } });
    assert.equal((await socket.ask({ kind: 'publish', topic: `${root}/line`, data: 1 })).code, 'rate-limited');
  });

  test('behind a trusted proxy shares no connections of it, but its own streams count', async (t) => {
    const broker = await limited(t, '[limits.address]\nconnections = 1');
    const agent = new http.Agent({ keepAlive: true, maxSockets: 50 });
    t.after(() => agent.destroy());
    const ask = (headers) => requestBy({ port: broker.port, host: '127.0.0.1', path: '/topics', headers, agent });
    const { answers } = await burst(50, () => ask(fresh()));
    assert.ok(answers.every(({ status }) => status === 200));
    const [one, two] = [fresh(), fresh()];
    const socket = await LineSocket.open(t, broker.base, '/stream', { headers: one });
    await assert.rejects(LineSocket.open(t, broker.base, '/stream', { headers: one }), (error) => {
      assert.equal(error.status, 429);
      assert.match(error.headers['ratelimit-policy'], /^"address-connections";q=1/);
      return true;
    });
    await LineSocket.open(t, broker.base, '/stream', { headers: two });
    socket.socket.terminate();
    await eventually(() => LineSocket.open(t, broker.base, '/stream', { headers: one }).catch(() => undefined), 'it counts on');
  });

  test('is the one that a header of the PROXY protocol names', async (t) => {
    const broker = await configured(t, 'listen = [{ address = "127.0.0.1:0", proxy_protocol = true }]\n[limits.address]\nconnections = 1', { ready: false });
    const open = async (client) => {
      const raw = await Raw.open(t, broker.port);
      await raw.send(`PROXY TCP4 ${client} 10.0.0.1 4711 443\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      await raw.until(/^HTTP\/1\.1 \d+/);
      return { raw, status: Number(/^HTTP\/1\.1 (\d+)/.exec(raw.text)[1]) };
    };
    const one = await open('203.0.113.1');
    assert.equal(one.status, 200);
    assert.equal((await open('203.0.113.1')).status, 429);
    assert.equal((await open('203.0.113.2')).status, 200);
    one.raw.close();
    await eventually(async () => (await open('203.0.113.1')).status === 200, 'it counts on');
  });

  test('that is refused over TLS is closed before the handshake', async (t) => {
    const folder = await emptyFolder();
    const file = path.join(folder, 'tailwire.toml');
    await writeFile(file, '[limits.address]\nconnections = 1');
    const broker = await Broker.start({ args: ['--tls-dev', '--config', file] });
    t.after(() => broker.stop());
    const one = await Raw.open(t, broker.port);
    const isClosed = async () => {
      const two = await Raw.open(t, broker.port);
      const text = await Promise.race([two.end(), once(two.socket, 'data').then(() => 'handshake')]);
      return text === '';
    };
    await eventually(isClosed, 'it is let in');
    one.close();
    const shaken = async () => {
      const socket = tls.connect({ port: broker.port, host: '127.0.0.1', rejectUnauthorized: false });
      t.after(() => socket.destroy());
      return Promise.race([once(socket, 'secureConnect').then(() => true), once(socket, 'close').then(() => false)]).catch(() => false);
    };
    await eventually(shaken, 'it counts on');
  });
});

describe('principals', () => {
  const settings = `[limits.principal]\npublishes_per_second = 10\nconnections = 1\nsubscriptions = 1`;
  const credential = (sub) => granting({ publish: ['**'], subscribe: ['**'] }, { sub });

  test('of one address do not harm each other', async (t) => {
    const broker = await configured(t, `listen = "127.0.0.1:0"\n${SECTION}\n${settings}`);
    const [alice, bob] = [credential('alice'), credential('bob')];
    const topic = freshTopic('users');
    const ask = async (who) => ofAnswer(await request(`${broker.base}/topics/${topic}`, { method: 'POST', body: 'x', headers: as(who) }));
    let over = false;
    const flood = (async () => {
      const all = [];
      while (!over) all.push(...(await burst(50, () => ask(alice))).answers);
      return all;
    })();
    for (let n = 0; n < 8; n += 1) assert.equal((await ask(bob)).status, 201, 'bob');
    over = true;
    const refused = (await flood).filter(({ status }) => status === 429);
    assert.ok(refused.length > 0 && refused.every(({ violated }) => violated[0] === 'principal-publishes'));
    // A new token of the same subject is the same principal, and no credential is nobody.
    const again = await burst(100, () => ask(credential('alice')));
    assert.ok(again.answers.some(({ status }) => status === 429));
  });

  test('count for their streams and WebSockets, also where one is shown later', async (t) => {
    const broker = await configured(t, `listen = "127.0.0.1:0"\n${SECTION}\n${settings}`);
    const [alice, bob] = [credential('alice'), credential('bob')];
    const open = (who, url = '/stream') => LineSocket.open(t, broker.base, url, { headers: as(who) });
    const first = await open(alice);
    await assert.rejects(open(alice), { status: 429 });
    await open(bob);
    const carol = await LineSocket.open(t, broker.base, '/stream');
    assert.equal((await carol.ask({ kind: 'subscribe', topic: 'public/a' })).kind, 'ok');
    const refused = await carol.ask({ kind: 'authenticate', token: alice });
    assert.deepEqual([refused.code, refused['violated-policies']], ['rate-limited', ['principal-connections']]);
    assert.equal((await carol.closed).code, 1013);
    first.socket.terminate();
    const later = await eventually(async () => {
      const socket = await LineSocket.open(t, broker.base, '/stream');
      assert.equal((await socket.ask({ kind: 'subscribe', topic: 'public/a', id: 1 })).kind, 'ok');
      return (await socket.ask({ kind: 'authenticate', token: alice })).kind === 'ok' && socket;
    }, 'it counts on');
    // Its subscription is alice's from then on, and the same token again changes nothing.
    assert.equal((await later.ask({ kind: 'authenticate', token: alice })).kind, 'ok');
    assert.equal((await later.ask({ kind: 'subscribe', topic: 'public/b' })).code, 'rate-limited');
    assert.equal((await later.ask({ kind: 'unsubscribe', sub: 1 })).kind, 'ok');
    assert.equal((await later.ask({ kind: 'subscribe', topic: 'public/b' })).kind, 'ok');
    await assert.rejects(open(alice), { status: 429 });
  });

  test('guesses of a credential count for their address', async (t) => {
    const broker = await limited(t, `${SECTION}\n[limits.address]\nrequests_per_second = 10`);
    const headers = { ...fresh(), ...as('not.a.token') };
    const { answers, seconds } = await burst(150, async () => ofAnswer(await request(`${broker.base}/topics/a`, { headers })));
    const looked = answers.filter(({ status }) => status === 401).length;
    assert.ok(looked >= 10 && looked <= 10 * (1 + seconds) + 1, `${looked} in ${seconds} s`);
    assert.ok(answers.every(({ status }) => status === 401 || status === 429));
  });
});

describe('a refusal', () => {
  test('has the fields, and after its time the same request passes', async (t) => {
    const broker = await limited(t, '[limits.address]\nnew_topics_per_minute = 60\npublishes_per_second = 2', 'allow_origins = ["https://app.example"]');
    const headers = { ...fresh(), origin: 'https://app.example' };
    const topic = freshTopic('fields');
    const ask = () => request(`${broker.base}/topics/${topic}`, { method: 'POST', body: 'x', headers });
    const answers = (await burst(40, ask)).answers;
    const refused = answers.find(({ status }) => status === 429);
    const { retry_after_ms, detail } = assertProblem(refused, 429, 'rate-limited');
    assert.equal(refused.headers.get('ratelimit-policy'), '"address-publishes";q=2;w=1');
    const seconds = Math.ceil(retry_after_ms / 1000);
    assert.equal(refused.headers.get('retry-after'), String(seconds));
    assert.equal(refused.headers.get('ratelimit'), `"address-publishes";r=0;t=${seconds}`);
    assert.equal(detail, 'At most 2 publishes of one address are taken a second.');
    // Scripts of other origins may see them.
    const exposed = refused.headers.get('access-control-expose-headers').split(', ');
    for (const name of ['retry-after', 'ratelimit', 'ratelimit-policy']) assert.ok(exposed.includes(name), name);
    assert.equal(answers.find(({ status }) => status === 201).headers.get('ratelimit'), null);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    assert.equal((await ask()).status, 201);
  });

  test('is obeyed by the JavaScript client: all arrive, in order, and few are refused', async (t) => {
    const broker = await configured(t, 'listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n[limits.address]\npublishes_per_second = 10');
    const { connect: open } = await import('../../clients/js/dist/tailwire.mjs');
    const client = open(broker.base);
    t.after(() => client.close());
    const topic = freshTopic('client');
    const count = 50;
    const sent = [];
    for (let n = 0; n < count; n += 1) {
      sent.push(client.publish(topic, n));
      // A batch takes what has gathered: one after the other there are several.
      if (n % 10 === 9) await sent.at(-1);
    }
    await Promise.all(sent);
    const messages = await readAll(broker.base, `/topics/${topic}`);
    assert.deepEqual(messages.map(({ data }) => data), Array.from({ length: count }, (_, n) => n));
    const refused = Number(/tailwire_limited_total\{limit="address",kind="publishes"\} (\d+)/.exec(await broker.metrics())?.[1] ?? 0);
    assert.ok(refused >= 1 && refused <= 20, `${refused} refusals`);
  });
});

test('the settings are checked, and shown', async (t) => {
  const broker = await limited(t, '[limits.address]\nconnections = 7\nbytes_per_second = 1_000\n[limits.total]\nrequests_per_second = 9');
  const file = path.join(broker.folder, 'tailwire.toml');
  const shown = await run(['config', 'show', '--config', file]);
  assert.match(shown.stdout, /\n\[limits\.address\]\nconnections = 7\nbytes_per_second = 1000\n\n\[limits\.total\]\nrequests_per_second = 9\n$/);
  assert.equal((await run(['config', 'check', '--config', file])).code, 0);
});
