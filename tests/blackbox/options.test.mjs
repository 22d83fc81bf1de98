// `/options`: set, read, listed and taken back, over HTTP and by lines; kept across restarts; from the settings file; and
// what caches are told of a topic that has some. What the options do to messages is tested with the messages.

import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Broker, emptyFolder, run } from './support/broker.mjs';
import { assertProblem, freshTopic, publishBatch, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

const DEFAULT = { durability: 'sync', max_age: null, max_messages: null, max_bytes: null, compact: false, last: false };

const urlOf = (term, { base } = broker) => `${base}/options/${term}`;
const read = async (term, of) => (await request(urlOf(term, of))).json;
const remove = (term, of) => request(urlOf(term, of), { method: 'DELETE' });
const put = (term, options, { of, headers, body = JSON.stringify(options) } = {}) =>
  request(urlOf(term, of), { method: 'PUT', body, headers: { 'content-type': 'application/json', ...headers } });

/** Sets options; fails unless they are taken. Gives what the broker says of them. */
async function set(term, options, of) {
  const answer = await put(term, options, { of });
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}

describe('the options of a topic or pattern', () => {
  test('a topic that nobody has set anything for has the default', async () => {
    const topic = freshTopic();
    const answer = await request(urlOf(topic));
    assert.deepEqual([answer.status, answer.json], [200, { topic, effective: DEFAULT }]);
    assert.equal(answer.headers.get('content-type'), 'application/json');
    assert.equal(answer.headers.get('cache-control'), 'private, no-cache');
  });

  test('what is set is told, and replaced as a whole', async () => {
    const topic = freshTopic();
    const all = { durability: 'relaxed', max_age: 86400, max_messages: 1000, max_bytes: 1048576, compact: true, last: false };
    const first = await put(topic, all);
    assert.deepEqual([first.status, first.headers.get('cache-control')], [200, 'no-store']);
    assert.deepEqual(first.json, { topic, ...all, effective: all });
    assert.deepEqual(await read(topic), first.json);
    assert.deepEqual(await set(topic, { last: true }), { topic, compact: false, last: true, effective: { ...DEFAULT, last: true } });
    assert.deepEqual(await read(topic), { topic, compact: false, last: true, effective: { ...DEFAULT, last: true } });
  });

  test('an answer can be changed and sent back', async () => {
    const topic = freshTopic();
    const answer = await set(topic, { max_age: 5, max_bytes: null });
    assert.deepEqual(await set(topic, answer), answer);
    assert.equal((await set(topic, { ...answer, max_age: 6 })).max_age, 6);
  });

  test('DELETE and an empty object take back, also what is not set', async () => {
    const topic = freshTopic();
    for (const take of [() => remove(topic), () => put(topic, {})]) {
      await set(topic, { max_age: 5 });
      for (const _ of [1, 2]) assert.ok((await take()).status <= 204);
      assert.deepEqual(await read(topic), { topic, effective: DEFAULT });
    }
    const answer = await remove(topic);
    assert.deepEqual([answer.status, answer.text, answer.headers.get('cache-control')], [204, '', 'no-store']);
  });

  test('what holds for a topic comes from the most special term that sets it, member by member', async () => {
    const root = freshTopic();
    await set(`${root}/**`, { max_age: 60, max_messages: 1, compact: true });
    await set(`${root}/*`, { max_messages: 2, durability: 'relaxed' });
    await set(`${root}/a`, { max_age: null });
    const effective = { durability: 'relaxed', max_age: null, max_messages: 2, max_bytes: null, compact: true, last: false };
    assert.deepEqual(await read(`${root}/a`), { topic: `${root}/a`, max_age: null, effective });
    assert.deepEqual((await read(`${root}/b`)).effective, { ...effective, max_age: 60 });
    assert.deepEqual((await read(`${root}/b/c`)).effective, { ...DEFAULT, max_age: 60, max_messages: 1, compact: true });
    assert.deepEqual((await read(root)).effective, DEFAULT);
    assert.deepEqual(await read(`${root}/*`), { topic: `${root}/*`, durability: 'relaxed', max_messages: 2 });
    await remove(`${root}/*`);
    assert.deepEqual((await read(`${root}/a`)).effective, { ...DEFAULT, max_messages: 1, compact: true });
  });

  test('what is never stored is not compacted', async () => {
    const topic = freshTopic();
    const { effective } = await set(topic, { durability: 'memory', last: true });
    assert.deepEqual(effective, { ...DEFAULT, durability: 'memory' });
  });

  test('a name is encoded as in the URL of a topic', async () => {
    const name = `${freshTopic()}/ž "b"`;
    const encoded = name.split('/').map(encodeURIComponent).join('/');
    assert.equal((await set(encoded, { max_age: 7 })).topic, name);
    assert.equal((await read(encoded)).max_age, 7);
  });

  test('HEAD says what GET says, without a body', async () => {
    for (const url of [urlOf(freshTopic()), `${broker.base}/options`]) {
      const [get, head] = [await request(url), await request(url, { method: 'HEAD' })];
      assert.deepEqual([head.status, head.text], [200, '']);
      for (const name of ['content-type', 'cache-control', 'content-length']) assert.equal(head.headers.get(name), get.headers.get(name), name);
    }
  });
});

describe('refused', () => {
  const REFUSED = [
    { options: { max_aeg: 1 }, parameter: 'max_aeg' },
    { options: { max_age: 0 }, parameter: 'max_age' },
    { options: { max_age: -1 }, parameter: 'max_age' },
    { options: { max_age: 1.5 }, parameter: 'max_age' },
    { options: { max_age: '24h' }, parameter: 'max_age' },
    { options: { max_messages: 2 ** 53 }, parameter: 'max_messages' },
    { options: { max_bytes: true }, parameter: 'max_bytes' },
    { options: { durability: 'always' }, parameter: 'durability' },
    { options: { durability: null }, parameter: 'durability' },
    { options: { compact: 'true' }, parameter: 'compact' },
    { options: { compact: true, last: true }, parameter: 'last' },
    { options: { topic: 'another' }, parameter: 'topic' },
    { options: [], parameter: undefined },
  ];
  for (const { options, parameter } of REFUSED) {
    test(`${JSON.stringify(options)}, and nothing is set`, async () => {
      const topic = freshTopic();
      const problem = assertProblem(await put(topic, options), 400, 'options-invalid');
      assert.equal(problem.parameter, parameter);
      assert.deepEqual(await read(topic), { topic, effective: DEFAULT });
    });
  }

  test('a member that stands twice', async () => {
    assertProblem(await put('a', null, { body: '{"max_age":1,"max_age":2}' }), 400, 'options-invalid');
  });

  test('what is no JSON, has another type, or is too large', async () => {
    assertProblem(await put('a', null, { body: '{' }), 400, 'json-invalid');
    assertProblem(await put('a', null, { body: Buffer.from([0x7b, 0xff, 0x7d]) }), 400, 'json-invalid');
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/problem+json']) {
      assertProblem(await put('a', {}, { headers: { 'content-type': type } }), 415, 'media-type-invalid');
    }
    assert.equal((await put('a', null, { body: `{}${' '.repeat(4094)}` })).status, 200);
    assertProblem(await put('a', null, { body: `{}${' '.repeat(4095)}` }), 413, 'body-too-large');
  });

  test('names that are none, and those of the broker', async () => {
    const ways = [(name) => request(urlOf(name)), (name) => put(name, { max_age: 1 }), remove];
    for (const way of ways) {
      for (const name of ['', 'a//b', 'a/', 'a%2Fb', 'a*', '**/a', 'x'.repeat(256)]) assertProblem(await way(name), 400, 'topic-invalid');
      for (const name of ['$sys', '$sys/x', '%24sys/**', '$presence/*']) assertProblem(await way(name), 403, 'topic-reserved');
    }
  });

  test('methods that there are not', async () => {
    for (const [url, allow] of [[urlOf('a'), 'GET, HEAD, PUT, DELETE, OPTIONS'], [urlOf('a/*'), 'GET, HEAD, PUT, DELETE, OPTIONS'], [`${broker.base}/options`, 'GET, HEAD, OPTIONS']]) {
      for (const method of ['POST', 'PATCH']) {
        const answer = await request(url, { method });
        assertProblem(answer, 405, 'method-not-allowed');
        assert.equal(answer.headers.get('allow'), allow);
      }
    }
  });

  test('pages of other origins may not set options, unless they are let in', async (t) => {
    const origin = 'https://app.example';
    const topic = freshTopic();
    assertProblem(await put(topic, { max_age: 1 }, { headers: { origin } }), 403, 'foreign-origin');
    assertProblem(await request(urlOf(topic), { method: 'DELETE', headers: { origin } }), 403, 'foreign-origin');
    assert.deepEqual(await read(topic), { topic, effective: DEFAULT });
    const open = await Broker.start({ args: ['--allow-origin', origin] });
    t.after(() => open.stop());
    const ask = { origin, 'access-control-request-method': 'PUT', 'access-control-request-headers': 'content-type' };
    const preflight = await request(urlOf(topic, open), { method: 'OPTIONS', headers: ask });
    assert.equal(preflight.status, 204);
    assert.match(preflight.headers.get('access-control-allow-methods'), /\bPUT\b/);
    const answer = await put(topic, { max_age: 1 }, { of: open, headers: { origin } });
    assert.deepEqual([answer.status, answer.headers.get('access-control-allow-origin')], [200, origin]);
  });
});

describe('a log of its own', () => {
  test('is listed in order, and survives restarts and a crash', async (t) => {
    const own = await Broker.start();
    t.after(() => own.stop());
    const list = async () => (await request(`${own.base}/options`)).json;
    assert.deepEqual(await list(), { options: [] });
    await set('b/*', { max_age: 60 }, own);
    await set('b', { durability: 'relaxed', max_bytes: null }, own);
    await set('a', { last: true }, own);
    await set('gone', { max_age: 1 }, own);
    await own.restart();
    await remove('gone', own);
    const expect = {
      options: [
        { topic: 'a', compact: false, last: true },
        { topic: 'b', durability: 'relaxed', max_bytes: null },
        { topic: 'b/*', max_age: 60 },
      ],
    };
    assert.deepEqual(await list(), expect);
    await own.crash();
    assert.deepEqual(await list(), expect);
    assert.equal((await read('b/c', own)).effective.max_age, 60);
  });

  test('has options for 1,000 topics and patterns, and for no more', async (t) => {
    const own = await Broker.start();
    t.after(() => own.stop());
    const socket = await LineSocket.open(t, own.base);
    const numbers = Array.from({ length: 1000 }, (_, n) => n);
    const answers = await Promise.all(numbers.map((n) => socket.ask({ kind: 'set_options', topic: `t/${n}/*`, max_age: 1 })));
    assert.ok(answers.every(({ kind }) => kind === 'ok'), JSON.stringify(answers.find(({ kind }) => kind !== 'ok')));
    assertProblem(await put('t/1000', { max_age: 1 }, { of: own }), 429, 'options-too-many');
    const line = await socket.ask({ kind: 'set_options', topic: 't/1000', max_age: 1 });
    assert.deepEqual([line.status, line.code], [429, 'options-too-many']);
    assert.equal((await set('t/7/*', { max_age: 2 }, own)).max_age, 2);
    await remove('t/7/*', own);
    await set('t/1000', { max_age: 1 }, own);
    assert.equal((await request(`${own.base}/options`)).json.options.length, 1000);
    assert.equal((await request(`${own.base}/readyz`)).status, 200);
  });
});

describe('on a WebSocket', () => {
  test('every request has its twin', async (t) => {
    const socket = await LineSocket.open(t, broker.base);
    const topic = freshTopic();
    const members = { durability: 'relaxed', max_age: null, max_messages: 5, last: true };
    const ok = ({ kind, id, ...body }) => {
      assert.equal(kind, 'ok');
      return body;
    };
    const answer = ok(await socket.ask({ kind: 'set_options', topic, ...members }));
    assert.deepEqual(answer, { topic, ...members, compact: false, effective: { ...DEFAULT, ...members } });
    assert.deepEqual(await read(topic), answer);
    assert.deepEqual(ok(await socket.ask({ kind: 'options', topic })), answer);
    const { json } = await request(`${broker.base}/options`);
    assert.deepEqual(ok(await socket.ask({ kind: 'options' })), json);
    assert.ok(json.options.some((entry) => entry.topic === topic));
    assert.deepEqual(ok(await socket.ask({ kind: 'set_options', topic, max_age: 9 })), { topic, max_age: 9, effective: { ...DEFAULT, max_age: 9 } });
    assert.deepEqual(ok(await socket.ask({ kind: 'delete_options', topic })), {});
    assert.deepEqual(ok(await socket.ask({ kind: 'delete_options', topic })), {});
    assert.deepEqual(await read(topic), { topic, effective: DEFAULT });
  });

  const TWINS = [
    { line: { kind: 'set_options', topic: 'a', max_aeg: 1 }, http: () => put('a', { max_aeg: 1 }) },
    { line: { kind: 'set_options', topic: 'a', max_age: 0 }, http: () => put('a', { max_age: 0 }) },
    { line: { kind: 'set_options', topic: 'a', durability: null }, http: () => put('a', { durability: null }) },
    { line: { kind: 'set_options', topic: 'a', compact: true, last: true }, http: () => put('a', { compact: true, last: true }) },
    { line: { kind: 'set_options', topic: 'a//b', max_age: 1 }, http: () => put('a//b', { max_age: 1 }) },
    { line: { kind: 'set_options', topic: '$sys/**', max_age: 1 }, http: () => put('$sys/**', { max_age: 1 }) },
    { line: { kind: 'delete_options', topic: 'a*' }, http: () => remove('a*') },
    { line: { kind: 'delete_options', topic: '$sys' }, http: () => remove('$sys') },
    { line: { kind: 'options', topic: '$sys' }, http: () => request(urlOf('$sys')) },
  ];
  for (const { line, http } of TWINS) {
    test(`${JSON.stringify(line)} has the code of HTTP`, async (t) => {
      const socket = await LineSocket.open(t, broker.base);
      const { json } = await http();
      const { kind, status, code, title } = await socket.ask(line);
      assert.deepEqual([kind, status, code, title], ['error', json.status, json.code, json.title]);
    });
  }
});

describe('caches', () => {
  const SHARED = 'public, max-age=3600, immutable';
  const CASES = [
    { options: {}, expect: SHARED },
    { options: { max_age: 60 }, expect: 'public, max-age=60, immutable' },
    { options: { max_age: 86400, max_messages: 1000 }, expect: SHARED },
    { options: { compact: true }, expect: 'private, no-cache' },
  ];
  for (const { options, expect } of CASES) {
    test(`a full page and a message under ${JSON.stringify(options)}: ${expect}`, async () => {
      const topic = freshTopic();
      await set(topic, options);
      const [{ cursor }] = await publishBatch(broker.base, topic, [1, 2, 3]);
      const page = await request(`${broker.base}/topics/${topic}?after=${cursor}&limit=1`);
      assert.deepEqual([page.status, page.json.more, page.headers.get('cache-control')], [200, true, expect]);
      const message = await request(`${broker.base}/messages/${cursor}`);
      assert.deepEqual([message.status, message.headers.get('cache-control')], [200, expect]);
      const rest = await request(`${broker.base}/topics/${topic}?after=${cursor}&limit=2`);
      assert.deepEqual([rest.json.more, rest.headers.get('cache-control')], [false, 'private, no-cache']);
    });
  }
});

describe('the settings', () => {
  let folder;
  before(async () => (folder = await emptyFolder()));
  after(() => rm(folder, { recursive: true, force: true }));

  let counter = 0;
  /** A settings file with this text. */
  async function settings(text) {
    const file = path.join(folder, `settings-${(counter += 1)}.toml`);
    await writeFile(file, text);
    return file;
  }

  test('options of the file hold as far as no client sets others, and are shown at the start', async (t) => {
    const file = '[[options]]\ntopic = "**"\ndurability = "relaxed"\nmax_age = 60\n\n[[options]]\ntopic = "a"\nmax_messages = 10\ncompact = true\nmax_age = "none"\n';
    const own = await Broker.start({ args: ['--config', await settings(file), '--accept-loss'], env: { TAILWIRE_LOG_MAX_BYTES: '1000000000' } });
    t.after(() => own.stop());
    assert.match(own.stdout, /durability\s+acknowledged messages are on disk within 100 ms\n/);
    const configured = { topic: 'a', max_age: null, max_messages: 10, compact: true, last: false };
    const effective = { ...DEFAULT, durability: 'relaxed', max_messages: 10, compact: true };
    assert.deepEqual(await read('a', own), { ...configured, effective });
    assert.deepEqual(await set('a', { max_messages: 5 }, own), { ...configured, max_messages: 5, effective: { ...effective, max_messages: 5 } });
    assert.deepEqual((await request(`${own.base}/options`)).json.options, [{ ...configured, max_messages: 5 }, { topic: '**', durability: 'relaxed', max_age: 60 }]);
    assert.equal((await remove('a', own)).status, 204);
    assert.deepEqual(await read('a', own), { ...configured, effective });
    await set('**', { durability: 'sync' }, own);
    await set('b', { durability: 'memory' }, own);
    await own.restart();
    assert.match(own.stdout, /durability\s+every acknowledged message is on disk; 1 topic or pattern differs \(\/options\)\n/);
    assert.equal((await read('c', own)).effective.max_age, 60);
  });

  const WRONG = [
    { text: '[[options]]\nmax_age = 1\n', says: /:1: options need a topic/ },
    { text: '[[options]]\ntopic = "a"\nmax_aeg = 1\n', says: /:3: unknown key `options\.max_aeg`; did you mean max_age\?/ },
    { text: '[[options]]\ntopic = "a"\n\nmax_age = "24h"\n', says: /:4: options\.max_age has to be a whole number/ },
    { text: '[[options]]\ntopic = "a"\ncompact = true\nlast = true\n', says: /:4: options\.last/ },
    { text: '[[options]]\ntopic = "a//b"\n', says: /:2: options\.topic can't be `a\/\/b`/ },
    { text: 'log_max_bytes = 0\n', says: /:1: log_max_bytes can't be `0`/ },
  ];
  for (const { text, says } of WRONG) {
    test(`${JSON.stringify(text)} is refused with its line`, async () => {
      const { code, stdout, stderr } = await run(['serve', '--listen', '127.0.0.1:0', '--data', path.join(folder, 'data'), '--config', await settings(text)]);
      assert.deepEqual([code, stdout], [2, '']);
      assert.match(stderr, says);
    });
  }
});
