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
  const { text } = await request(`${broker.base}/metrics`);
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
    assert.ok(head.toLowerCase().includes('\r\nvary: origin\r\n'), head);
  });

  test('for the newest message as itself has no body when there is none', async (t) => {
    const raw = await Raw.open(t, broker.port);
    await raw.send(get(`/topics/${freshTopic()}?format=raw&wait=2`) + get('/healthz'));
    await raw.until(/^HTTP\/1\.1 202 [\s\S]*?\r\ncontent-length: 0\r\n[\s\S]*?\r\n\r\nHTTP\/1\.1 200 OK\r\n/i);
  });

  test('is let go of when its client is gone', async (t) => {
    const gone = await Raw.open(t, broker.port);
    await gone.send(get(`/topics/${freshTopic()}?wait=50`));
    await eventually(async () => (await waiting(broker)) === 1, 'it waits');
    await untilHeld(broker);
    gone.close();
    await eventually(async () => (await waiting(broker)) === 0, 'it is let go of');
  });

  test('is closed when the client asked for that', async (t) => {
    const raw = await Raw.open(t, broker.port);
    await raw.send(get(`/topics/${freshTopic()}?wait=2`, 'Connection: close\r\n'));
    assert.match(await raw.end(), /^HTTP\/1\.1 202 [\s\S]*\r\nconnection: close\r\n/i);
  });
});

test('a drain answers long-polls, and closes their connections', async (t) => {
  const broker = await Broker.start();
  t.after(() => broker.stop());
  const topic = freshTopic();
  const polls = await Promise.all(
    numbers(20).map(async () => {
      const raw = await Raw.open(t, broker.port);
      await raw.send(get(`/topics/${topic}?wait=50`));
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
