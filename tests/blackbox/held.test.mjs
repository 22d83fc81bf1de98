// Long-polls that wait: nothing is held of them but the socket, and the connection goes on behind the answer as if that had
// come at once.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker, eventually } from './support/broker.mjs';
import { freshTopic, publish, request } from './support/http.mjs';
import { Raw } from './support/raw.mjs';

const ORIGIN = 'https://app.example';
const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const get = (path, headers = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`;

/** Waits until whatever was asked before waits: a poll that begins now has waited for a second then. */
async function untilHeld(broker) {
  const answer = await request(`${broker.base}/topics/${freshTopic()}?wait=1`);
  assert.equal(answer.status, 202);
}

async function waiting(broker) {
  const text = await broker.metrics();
  return Number(/^tailwire_connections\{transport="long-poll"\} (\d+)$/m.exec(text)?.[1] ?? 0);
}

describe('a long-poll that waits', () => {
  let broker;
  before(async () => {
    broker = await Broker.start({ args: ['--allow-origin', ORIGIN] });
  });
  after(() => broker.stop());

  test('is answered when its time is over, and its connection takes the next request', async (t) => {
    const topic = freshTopic();
    const raw = await Raw.open(t, broker.port);
    for (const round of numbers(2)) {
      raw.received = Buffer.alloc(0);
      await raw.send(get(`/topics/${topic}?wait=2`));
      const [head] = await raw.until(/^[\s\S]*?\r\n\r\n/);
      assert.match(head, /^HTTP\/1\.1 202 Accepted\r\n/, `round ${round}`);
      assert.match(head, /\r\npreference-applied: wait=2\r\n/i);
      const length = Number(/\r\ncontent-length: (\d+)\r\n/i.exec(head)[1]);
      await raw.until(({ received }) => received.length === head.length + length);
      raw.received = Buffer.alloc(0);
      await raw.send(get('/healthz'));
      await raw.until(/^HTTP\/1\.1 200 OK\r\n/);
    }
  });

  test('is answered by the message that it waits for, and goes on from there', async (t) => {
    const topic = freshTopic();
    const raw = await Raw.open(t, broker.port);
    await raw.send(get(`/topics/${topic}?wait=50`));
    await untilHeld(broker);
    await publish(broker.base, topic, 'one');
    const [, cursor] = await raw.until(/"cursor":"([^"]+)","topic"/);
    await raw.until(/"more":false\}$/);
    raw.received = Buffer.alloc(0);
    await raw.send(get(`/topics/${topic}?wait=50&after=${cursor}`));
    await untilHeld(broker);
    await publish(broker.base, topic, 'two');
    await raw.until(/"data":"two"/);
    assert.doesNotMatch(raw.text, /"data":"one"/);
  });

  test('holds what was sent behind it, and answers that next', async (t) => {
    const topic = freshTopic();
    const raw = await Raw.open(t, broker.port);
    await raw.send(get(`/topics/${topic}?wait=50`));
    await untilHeld(broker);
    const rest = get(`/topics/${topic}?last=1`) + get('/healthz');
    await raw.send(rest.slice(0, 20));
    await raw.send(rest.slice(20));
    await publish(broker.base, topic, 'here');
    await raw.until(/("data":"here"[\s\S]*){2}HTTP\/1\.1 200 OK[\s\S]*\r\n\r\n/);
  });

  test('is followed by whatever a connection may be used for', async (t) => {
    const [topic, silent] = [freshTopic(), freshTopic()];
    await publish(broker.base, topic, 'one');
    const post = `POST /topics/${topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\none`;
    const upgrade =
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
    const others = [
      [post, /^HTTP\/1\.1 201 Created\r\n[\s\S]*\}$/],
      [get(`/topics/${topic}?last=1`), /^HTTP\/1\.1 200 OK\r\n[\s\S]*"data":"one"/],
      [get('/healthz').replace('GET', 'HEAD'), /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n$/],
      [get('/nowhere'), /^HTTP\/1\.1 404 [\s\S]*"code":"not-found"/],
      [get('/topics/..'), /^HTTP\/1\.1 400 /],
      ['GET nothing\r\n\r\n', /^HTTP\/1\.1 400 /],
      [get(`/topics/${topic}`, 'Connection: close\r\n'), /^HTTP\/1\.1 200 OK\r\n[\s\S]*connection: close\r\n/i],
      [get(`/topics/${topic}?format=sse&after=earliest`), /^HTTP\/1\.1 200 OK\r\n[\s\S]*data: one/],
      [get(`/topics/${topic}?after=earliest`, upgrade), /^HTTP\/1\.1 101 [\s\S]*"data":"one"/],
    ];
    // Whole, and in parts: what is only begun is waited for.
    const asked = others.flatMap(([other, answer]) => [other.length, 10].map((cut) => [other, cut, answer]));
    await Promise.all(
      asked.map(async ([other, cut, answer]) => {
        const raw = await Raw.open(t, broker.port);
        await raw.send(get(`/topics/${silent}?wait=1`));
        await raw.until(/^HTTP\/1\.1 202 [\s\S]*\}$/);
        raw.received = Buffer.alloc(0);
        await raw.send(other.slice(0, cut));
        await raw.send(other.slice(cut));
        await raw.until(answer);
      }),
    );
  });

  test('has nothing of its own request taken for the next one', async (t) => {
    const topic = freshTopic();
    const bodies = [
      ['Content-Length', (body) => `${body.length}\r\n\r\n${body}`],
      ['Transfer-Encoding', (body) => `chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`],
    ];
    for (const [name, put] of bodies) {
      const raw = await Raw.open(t, broker.port);
      const body = get('/topics/smuggled');
      await raw.send(`GET /topics/${topic}?wait=1 HTTP/1.1\r\nHost: localhost\r\n${name}: ${put(body)}`);
      await raw.send(get('/healthz'));
      await raw.until(/^HTTP\/1\.1 202 [\s\S]*HTTP\/1\.1 200 OK/);
      assert.equal(raw.text.split('HTTP/1.1 ').length - 1, 2, raw.text);
      assert.doesNotMatch(raw.text, /smuggled/);
    }
  });

  test('of a page of another origin has the headers that let the page see it', async (t) => {
    const raw = await Raw.open(t, broker.port);
    await raw.send(get(`/topics/${freshTopic()}?wait=2`, `Origin: ${ORIGIN}\r\n`));
    const [head] = await raw.until(/^[\s\S]*?\r\n\r\n/);
    assert.ok(head.toLowerCase().includes(`\r\naccess-control-allow-origin: ${ORIGIN}\r\n`), head);
    assert.match(head, /\r\nvary: (?:[a-z-]+, )*origin[,\r]/i);
  });

  test('for the newest message as itself has no body when there is none', async (t) => {
    const raw = await Raw.open(t, broker.port);
    await raw.send(get(`/topics/${freshTopic()}?format=raw&wait=2`) + get('/healthz'));
    await raw.until(/^HTTP\/1\.1 202 [\s\S]*?\r\ncontent-length: 0\r\n[\s\S]*?\r\n\r\nHTTP\/1\.1 200 OK\r\n/i);
  });

  test('is let go of when its connection is broken', async (t) => {
    const gone = await Raw.open(t, broker.port);
    await gone.send(get(`/topics/${freshTopic()}?wait=50`));
    await eventually(async () => (await waiting(broker)) === 1, 'it waits');
    await untilHeld(broker);
    gone.socket.resetAndDestroy();
    await eventually(async () => (await waiting(broker)) === 0, 'it is let go of');
  });

  test('is closed when the client asked for that', async (t) => {
    const raw = await Raw.open(t, broker.port);
    await raw.send(get(`/topics/${freshTopic()}?wait=2`, 'Connection: close\r\n'));
    assert.match(await raw.end(), /^HTTP\/1\.1 202 [\s\S]*\r\nconnection: close\r\n/i);
  });
});

describe('long-polls that wait for the same', () => {
  let broker;
  before(async () => {
    broker = await Broker.start({ args: ['--allow-origin', ORIGIN] });
  });
  after(() => broker.stop());

  const answers = (raw, count) => raw.until(({ text }) => text.split('HTTP/1.1 ').length > count && text.endsWith('}'));

  test('are all answered, each as it has asked, and go on', async (t) => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'zero');
    const asked = [
      ['wait=50', ''],
      ['wait=50', `Origin: ${ORIGIN}\r\n`],
      ['wait=50&format=json', ''],
      ['limit=1&wait=50', ''],
      ['', 'Prefer: wait=50\r\n'],
      ['', 'Prefer: wait=40\r\n'],
    ];
    const clients = await Promise.all(
      numbers(120).map(async (index) => {
        const [query, headers] = asked[index % asked.length];
        const raw = await Raw.open(t, broker.port);
        await raw.send(get(`/topics/${topic}?${query}&after=${cursor}`, headers));
        return { raw, query, headers };
      }),
    );
    await eventually(async () => (await waiting(broker)) === clients.length, 'they wait');
    // Some go, some ask on without waiting for the answer.
    clients.slice(0, 20).forEach(({ raw }) => raw.close());
    const [one, two] = [clients.slice(20, 40), clients.slice(40)];
    await Promise.all(one.map(({ raw }) => raw.send(get('/healthz'))));
    const next = (await publish(broker.base, topic, 'one')).cursor;
    await Promise.all(one.map(({ raw }) => raw.until(/"data":"one"[\s\S]*HTTP\/1\.1 200 OK\r\n/)));
    await Promise.all(two.map(({ raw }) => answers(raw, 1)));
    for (const { raw, query, headers } of two) {
      const [head, body] = raw.text.split('\r\n\r\n');
      assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
      assert.equal(body.length, Number(/\r\ncontent-length: (\d+)/i.exec(head)[1]));
      assert.deepEqual(JSON.parse(body).messages.map(({ data }) => data), ['one']);
      assert.equal(JSON.parse(body).cursor, next);
      assert.ok(head.includes(`\r\netag: W/"${next}"\r\n`), head);
      assert.ok(head.includes(`\r\nlink: <?${query ? `${query}&` : ''}after=${next}>; rel="next"`), head);
      assert.equal(head.includes(`\r\naccess-control-allow-origin: ${ORIGIN}`), headers.startsWith('Origin'), head);
      const wait = headers.includes('40') ? 40 : 50;
      assert.ok(head.includes(`\r\npreference-applied: wait=${wait}`), head);
    }
    await Promise.all(two.map(({ raw }) => raw.send(get(`/topics/${topic}?wait=50&after=${next}`))));
    await eventually(async () => (await waiting(broker)) === two.length, 'they wait again');
    await publish(broker.base, topic, 'two');
    await Promise.all(two.map(({ raw }) => answers(raw, 2)));
    for (const { raw } of two) assert.deepEqual(raw.text.match(/"data":"\w+"/g), ['"data":"one"', '"data":"two"']);
  });

  test('are given a message that sockets take only a part of, whenever they read it', async (t) => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'zero');
    const clients = await Promise.all(numbers(30).map((index) => Raw.open(t, broker.port, { paused: index % 2 })));
    await Promise.all(clients.map((raw) => raw.send(get(`/topics/${topic}?wait=50&after=${cursor}`) + get('/healthz'))));
    await eventually(async () => (await waiting(broker)) === clients.length, 'they wait');
    const text = 'x'.repeat(900_000);
    await publish(broker.base, topic, text);
    const isWhole = (raw) => raw.until(({ text }) => text.includes('"status":"ok"'));
    await Promise.all(clients.filter((_, index) => index % 2 === 0).map(isWhole));
    clients.forEach((raw, index) => index % 2 && raw.resume());
    await Promise.all(clients.map(isWhole));
    for (const raw of clients) assert.ok(raw.text.includes(`"data":"${text}"`));
  });

  test('get every message once, while waits run out and messages come', async () => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, '0');
    let last = 0;
    let isOver = false;
    const polls = { 200: 0, 202: 0 };
    const client = async () => {
      const got = [];
      for (let after = cursor; !isOver || got.length < last; ) {
        const { status, json } = await request(`${broker.base}/topics/${topic}?wait=1&after=${after}`);
        polls[status] += 1;
        got.push(...json.messages.map(({ data }) => Number(data)));
        after = json.cursor;
      }
      assert.deepEqual(got, numbers(last).map((number) => number + 1));
    };
    const clients = numbers(60).map(client);
    for (const round of numbers(8)) {
      // All of them asked at about the same time, so that it is over at about this one.
      await new Promise((resolve) => setTimeout(resolve, 985 + 5 * round));
      await publish(broker.base, topic, `${last + 1}`);
      last += 1;
    }
    isOver = true;
    await Promise.all(clients);
    assert.ok(polls[202] > 0, 'no wait ran out');
  });
});

test('a drain answers long-polls, and closes their connections', async (t) => {
  const broker = await Broker.start();
  t.after(() => broker.stop());
  const topic = freshTopic();
  const { cursor } = await publish(broker.base, freshTopic(), 'elsewhere');
  const polls = await Promise.all(
    numbers(20).map(async (index) => {
      const raw = await Raw.open(t, broker.port);
      await raw.send(get(`/topics/${topic}?wait=50${index % 2 ? `&after=${cursor}` : ''}`));
      return raw;
    }),
  );
  await untilHeld(broker);
  const idle = await Raw.open(t, broker.port);
  await idle.send(get(`/topics/${topic}?wait=1`));
  await idle.until(/^HTTP\/1\.1 202 [\s\S]*\}$/);
  const { code, ms } = await broker.end('SIGTERM');
  assert.equal(code, 0);
  assert.ok(ms < 3000, `it took ${ms} ms`);
  await idle.end();
  for (const poll of polls) {
    const text = await poll.end();
    assert.match(text, /^HTTP\/1\.1 202 /);
    assert.match(text, /\r\nretry-after: \d+\r\n/i);
    assert.match(text, /\r\nconnection: close\r\n/i);
  }
});
