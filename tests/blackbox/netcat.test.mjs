// `nc -N` as many scripts use it: it sends a request, shuts its sending side, and shows what comes. That says nothing about
// interest in the answer (RFC 9112 §9.6), whatever was asked.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';

import { Broker, deadline } from './support/broker.mjs';
import { freshTopic, publish, readAll } from './support/http.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

class Netcat {
  text = '';

  constructor(t, parts) {
    this.child = spawn('nc.openbsd', ['-N', '127.0.0.1', String(broker.port)], { stdio: ['pipe', 'pipe', 'inherit'] });
    t.after(() => this.child.kill());
    this.child.stdout.setEncoding('latin1').on('data', (chunk) => (this.text += chunk));
    this.ended = once(this.child.stdout, 'end');
    // Each part is a write of its own; then the sending side is shut.
    for (const part of parts) this.child.stdin.write(part);
    this.child.stdin.end();
  }

  /** All that came up to here, once that is in it. */
  async until(pattern) {
    const late = deadline(`nothing like ${pattern} came, only: ${this.text.slice(-500)}`);
    while (!pattern.test(this.text)) await Promise.race([once(this.child.stdout, 'data'), late, this.failed()]);
    late.cancel();
  }

  async failed() {
    await this.ended;
    throw new Error(`it ended after: ${this.text}`);
  }

  /** The whole answer, once the broker has closed. */
  async whole() {
    const late = deadline(`it does not end: ${this.text}`);
    await Promise.race([this.ended, late]).finally(late.cancel);
    return this.text;
  }
}

const get = (path, version, ...headers) => [[`GET ${path} HTTP/${version}`, 'Host: localhost', ...headers, '', ''].join('\r\n')];
const post = (path, version, headers, ...body) => [[`POST ${path} HTTP/${version}`, 'Host: localhost', ...headers, '', ''].join('\r\n'), ...body];
const inChunks = (...parts) => [...parts.map((part) => `${part.length.toString(16)}\r\n${part}\r\n`), '0\r\n\r\n'];

test('a publish is answered: with a length, in chunks, by HTTP/1.0, small and large', async (t) => {
  const path = `/topics/${freshTopic()}`;
  const [close, chunked, large] = ['Connection: close', 'Transfer-Encoding: chunked', 'x'.repeat(1 << 20)];
  const requests = [
    post(path, '1.1', [close, 'Content-Length: 2'], 'hi'),
    post(path, '1.1', ['Content-Length: 2'], 'hi'),
    post(path, '1.0', ['Content-Length: 2'], 'h', 'i'),
    post(path, '1.1', [close, chunked], ...inChunks('h', 'i')),
    post(path, '1.1', [chunked], ...inChunks('h', 'i')),
    post(path, '1.1', [close, `Content-Length: ${large.length}`], large),
    post(path, '1.1', [close, chunked], ...inChunks(large.slice(1), 'x')),
  ];
  for (const request of requests) {
    const answer = await new Netcat(t, request).whole();
    assert.match(answer, /^HTTP\/1\.[01] 201 /, request[0]);
    assert.match(answer, /"cursor":"/);
  }
  assert.equal((await readAll(broker.base, path)).length, requests.length);
});

test('a poll that waits is answered when the message comes, and a stream goes on', async (t) => {
  const topic = freshTopic();
  const path = `/topics/${topic}`;
  const { cursor } = await publish(broker.base, topic, 'first');
  const streams = ['sse', 'ndjson'].flatMap((format) =>
    ['1.1', '1.0'].map((version) => new Netcat(t, get(`${path}?format=${format}&after=earliest`, version))),
  );
  for (const stream of streams) await stream.until(/caught_up/);
  const polls = [
    get(`${path}?after=${cursor}&wait=30`, '1.1'),
    get(`${path}?after=${cursor}`, '1.1', 'Connection: close', 'Prefer: wait=30'),
    get(`${path}?after=${cursor}&wait=30`, '1.0'),
    get(`${path}?format=raw&wait=30`, '1.1', `If-None-Match: "${cursor}"`),
  ].map((request) => new Netcat(t, request));
  // Whether each waits by then, or comes behind it, it is told.
  await publish(broker.base, topic, 'second');
  for (const poll of polls) {
    const answer = await poll.whole();
    assert.match(answer, /^HTTP\/1\.[01] 200 /, answer);
    assert.match(answer, /second/);
  }
  for (const stream of streams) await stream.until(/second/);
});

test('requests behind each other are all answered, the last one when its message comes', async (t) => {
  const topic = freshTopic();
  const path = `/topics/${topic}`;
  const { cursor } = await publish(broker.base, topic, 'first');
  const all = new Netcat(t, [
    ...post(path, '1.1', ['Content-Length: 6'], 'second'),
    ...get('/healthz', '1.1'),
    ...get(`${path}?after=${cursor}&limit=1`, '1.1'),
  ]);
  const answers = (await all.whole()).match(/HTTP\/1\.1 \d+/g);
  assert.deepEqual(answers, ['HTTP/1.1 201', 'HTTP/1.1 200', 'HTTP/1.1 200']);
  assert.match(all.text, /"data":"second"/);
});
