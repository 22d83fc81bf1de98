// HTTP/1.1 from the outside: how a request's bytes arrive makes no difference, answers come in order, a client that has shut its
// sending side is answered, and every refusal can be read.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { after, before, describe, test } from 'node:test';

import { Broker, eventually } from './support/broker.mjs';
import { curl, freshTopic, publish, publishBatch, readAll, request } from './support/http.mjs';
import { Raw } from './support/raw.mjs';

const ORIGIN = 'https://app.example';
const SEEN = 'http1/seen';
const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const JSON_TYPE = 'Content-Type: application/json';
const LINES_TYPE = 'Content-Type: application/x-ndjson';

/** What a client sends, before it is put into some form: method, target, headers, and a body if it has one. */
const REQUESTS = {
  'a publish': ['POST', '/topics/http1/a', [JSON_TYPE], '{"a":1}'],
  'an empty publish': ['POST', '/topics/http1/a', [], ''],
  'a publish of no JSON': ['POST', '/topics/http1/a', [JSON_TYPE], '{'],
  'a publish from another origin': ['POST', '/topics/http1/a', ['Origin: https://evil.example'], 'x'],
  'a publish from an origin that may': ['POST', '/topics/http1/a', [`Origin: ${ORIGIN}`], 'x'],
  'a publish with a key': ['POST', '/topics/http1/a?key=k', [], 'x'],
  'a publish with a wrong key': ['POST', '/topics/http1/a?key=', [], 'x'],
  'a batch': ['POST', '/topics/http1/a', [LINES_TYPE], '1\n2\n'],
  'a batch across topics': ['POST', '/stream', [LINES_TYPE], '{"topic":"http1/a","data":1}\n'],
  'a publish to a pattern': ['POST', '/topics/*', [], 'x'],
  'a publish to a wrong name': ['POST', '/topics/a%2Fb', [], 'x'],
  'a publish whose condition fails': ['POST', `/topics/${SEEN}`, ['If-None-Match: *'], 'x'],
  'a publish to nothing': ['POST', '/nowhere', [], 'x'],
  'a page': ['GET', `/topics/${SEEN}?limit=1&after=earliest`, []],
  'a page by HEAD': ['HEAD', `/topics/${SEEN}?limit=1&after=earliest`, []],
  'a page of nothing': ['GET', '/topics/http1/never', []],
  'a page by negotiation': ['GET', `/topics/${SEEN}`, ['Accept: application/json;q=0.5, */*;q=0.1']],
  'a page of a wrong cursor': ['GET', '/topics/a?after=x', []],
  'a page with a body': ['GET', `/topics/${SEEN}`, [], 'GET /topics/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  'a message as itself': ['GET', `/topics/${SEEN}?format=raw`, []],
  'a long-poll': ['GET', '/topics/http1/never?wait=1', [`Origin: ${ORIGIN}`]],
  'a long-poll of what is there': ['GET', `/topics/${SEEN}?wait=20&after=earliest`, []],
  'a stream by HEAD': ['HEAD', `/topics/${SEEN}?format=sse`, []],
  'no transport': ['GET', `/topics/${SEEN}`, ['Accept: image/png']],
  'the list of topics': ['GET', '/topics?prefix=nothing', []],
  'a check': ['GET', '/healthz', []],
  'a check by HEAD': ['HEAD', '/healthz', []],
  'nothing': ['GET', '/nowhere', []],
  'another method': ['POST', '/healthz', [], ''],
  'an unknown method': ['BREW', '/topics/a', []],
  'options': ['PUT', '/options/http1/options', [JSON_TYPE], '{"max_messages":9}'],
  'a deletion': ['DELETE', '/topics/http1/gone', []],
};

const written = (method, target, version, headers, body = '', eol = '\r\n') =>
  [`${method} ${target} HTTP/${version}`, ...headers, '', ''].join(eol) + body;
const length = (body) => (body === undefined ? [] : [`Content-Length: ${body.length}`]);
const chunks = (body, size, tail = '\r\n') =>
  `${(body.match(new RegExp(`[\\s\\S]{1,${size}}`, 'g')) ?? []).map((part) => `${part.length.toString(16)}\r\n${part}\r\n`).join('')}0\r\n${tail}`;

/** The forms in which the same can be sent. Those with `coded` are for requests with a body. */
const FORMS = {
  'as usual': (method, target, headers, body) => written(method, target, '1.1', ['Host: localhost', ...headers, ...length(body)], body),
  'asking to close': (method, target, headers, body) =>
    written(method, target, '1.1', ['Host: localhost', 'Connection: close', ...headers, ...length(body)], body),
  'asking to stay': (method, target, headers, body) =>
    written(method, target, '1.1', ['host:localhost', 'CONNECTION: x, Keep-Alive', ...headers, ...length(body)], body),
  'in HTTP/1.0': (method, target, headers, body) => written(method, target, '1.0', [...headers, ...length(body)], body),
  'in HTTP/1.0, asking to stay': (method, target, headers, body) =>
    written(method, target, '1.0', ['Connection: keep-alive', ...headers, ...length(body)], body),
  'by its whole address': (method, target, headers, body) =>
    written(method, `http://localhost${target}`, '1.1', ['Host: localhost', ...headers, ...length(body)], body),
  'with bare line feeds': (method, target, headers, body) =>
    written(method, target, '1.1', ['Host: localhost', ...headers, ...length(body)], body, '\n'),
  'behind empty lines': (method, target, headers, body) =>
    `\r\n\r\n${written(method, target, '1.1', ['Host: localhost', ...headers, ...length(body)], body)}`,
  'with many headers': (method, target, headers, body) =>
    written(method, target, '1.1', ['Host: localhost', ...numbers(60).map((n) => `X-${n}: ${'y'.repeat(n)}`), ...headers, ...length(body)], body),
  'for another host': (method, target, headers, body) =>
    written(method, target, '1.1', ['Host: evil.example', ...headers, ...length(body)], body),
  'without a host': (method, target, headers, body) => written(method, target, '1.1', [...headers, ...length(body)], body),
  'in one chunk': (method, target, headers, body) =>
    body === undefined
      ? undefined
      : written(method, target, '1.1', ['Host: localhost', 'Transfer-Encoding: chunked', ...headers], chunks(body, 1000)),
  'in small chunks': (method, target, headers, body) =>
    body === undefined
      ? undefined
      : written(method, target, '1.1', ['Host: localhost', 'Transfer-Encoding: chunked', ...headers], chunks(body, 2, 'Trailer: x\r\n\r\n')),
  'waiting to be told to go on': (method, target, headers, body) =>
    body === undefined
      ? undefined
      : written(method, target, '1.1', ['Host: localhost', 'Expect: 100-continue', ...headers, ...length(body)], body),
};

/** Requests that are wrong in themselves. */
const post = (headers, body = 'x') => written('POST', '/topics/http1/wrong', '1.1', ['Host: localhost', ...headers], body);
const WRONG = {
  'no version': ['GET /topics/a\r\n\r\n', 400],
  'a version to come': ['GET /topics/a HTTP/9.9\r\nHost: localhost\r\n\r\n', 505],
  'a blank before the colon': ['GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n', 400],
  'a folded line': ['GET /healthz HTTP/1.1\r\nHost: localhost\r\n x\r\n\r\n', 400],
  'a header without a name': ['GET /healthz HTTP/1.1\r\n: x\r\n\r\n', 400],
  'a zero byte': ['GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n', 400],
  'a target that is none': ['GET nothing HTTP/1.1\r\nHost: localhost\r\n\r\n', 400],
  'a target of another scheme': ['GET ftp://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n', 400],
  'two hosts': ['GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n', 400],
  'a host with something behind': ['GET /healthz HTTP/1.1\r\nHost: [::1]evil\r\n\r\n', 400],
  'a host with a port that is none': ['GET /healthz HTTP/1.1\r\nHost: localhost:x\r\n\r\n', 400],
  'a host with a user': ['GET /healthz HTTP/1.1\r\nHost: evil@localhost\r\n\r\n', 400],
  'an address with a user': ['GET http://evil@localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n', 400],
  'two lengths': [post(['Content-Length: 1', 'Content-Length: 1']), 400],
  'a list of lengths': [post(['Content-Length: 1, 1']), 400],
  'a negative length': [post(['Content-Length: -1']), 400],
  'a length with a sign': [post(['Content-Length: +1']), 400],
  'a length that overflows': [post(['Content-Length: 99999999999999999999999']), 400],
  'a length and chunks': [post(['Content-Length: 6', 'Transfer-Encoding: chunked'], '0\r\n\r\nx'), 400],
  'another coding': [post(['Transfer-Encoding: gzip']), 501],
  'another coding before chunks': [post(['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n'), 501],
  'another coding before chunks, in two lines': [post(['Transfer-Encoding: x', 'Transfer-Encoding: chunked'], '0\r\n\r\n'), 501],
  'chunks that are not last': [post(['Transfer-Encoding: chunked, gzip'], '0\r\n\r\n'), 400],
  'chunks twice': [post(['Transfer-Encoding: chunked, chunked'], '0\r\n\r\n'), 400],
  'chunks in HTTP/1.0': ['POST /topics/http1/wrong HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400],
  'a chunk that is none': [post(['Transfer-Encoding: chunked'], 'zz\r\nab\r\n0\r\n\r\n'), 400],
  'a chunk that overflows': [post(['Transfer-Encoding: chunked'], 'fffffffffffffffff\r\nab'), 400],
  'a chunk that is longer than it says': [post(['Transfer-Encoding: chunked'], '1\r\nab\r\n0\r\n\r\n'), 400],
  'a chunk with a bare line feed': [post(['Transfer-Encoding: chunked'], '1\nx\r\n0\r\n\r\n'), 400],
  'a body that ends early': [post(['Content-Length: 100']), 400],
  'chunks that end early': [post(['Transfer-Encoding: chunked'], '5\r\nab'), 400],
  'too many headers': [`GET /healthz HTTP/1.1\r\nHost: localhost\r\n${'X: y\r\n'.repeat(100)}\r\n`, 431],
  'a huge header': [`GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
  'an announced body that is too large': [post(['Content-Length: 99999999999']), 413],
};

/** All that a client hears, without what differs from one time to the next. */
const vague = (text) =>
  text
    .replace(/HTTP\/1\.1 100 Continue\r\n\r\n/g, '')
    .replace(/[0-9a-v]{6,8}-[0-9a-v]{11,13}/g, 'CURSOR')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/"retry_after_ms":\d+/g, 'RETRY')
    .replace(/(date|retry-after|content-length): [^\r]*/g, '$1');

/** Sends parts, shuts the sending side, and gives all that is answered. */
async function exchange(t, broker, parts) {
  const raw = await Raw.open(undefined, broker.port);
  for (const part of parts) {
    await raw.send(part);
    // So that the parts don't come as one.
    await new Promise((resolve) => setImmediate(resolve));
  }
  raw.socket.end();
  const text = await raw.end(30_000);
  raw.close();
  return text;
}

/** Numbers that look like chance, and are the same each time. */
function* chance(seed) {
  for (;;) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    yield seed / 2 ** 32;
  }
}

const inParts = (text, random) => {
  const cuts = numbers(4).map(() => Math.floor(random.next().value * text.length)).sort((a, b) => a - b);
  return [0, ...cuts].map((from, index) => text.slice(from, cuts[index] ?? text.length));
};

describe('a request', () => {
  let broker;
  before(async () => {
    broker = await Broker.start({ args: ['--allow-origin', ORIGIN] });
    await publish(broker.base, SEEN, 'first');
  });
  after(() => broker.stop());

  // What follows shows where the broker takes the request for over.
  const next = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Next: 1\r\n\r\n';
  const check = async (t, shapes) => {
    const random = chance(7);
    for (let from = 0; from < shapes.length; from += 16) {
      await Promise.all(
        shapes.slice(from, from + 16).map(async ([name, text, status]) => {
          const [whole, again, bytes] = await Promise.all([
            exchange(t, broker, [text + next]),
            exchange(t, broker, inParts(text + next, random)),
            exchange(t, broker, [...text, next]),
          ]);
          assert.match(whole, /^HTTP\/1\.[01] \d{3} /, `${name}: no answer`);
          // Behind a refusal of a body that nobody was told to send, the connection ends unless that has come by then.
          const told = name.includes('waiting to be told') ? (text) => vague(text).split('\r\n')[0] : vague;
          assert.equal(told(again), told(whole), `${name}: in parts`);
          assert.equal(told(bytes), told(whole), `${name}: byte by byte`);
          assert.ok(!whole.includes('smuggled'), name);
          if (status) assert.equal(Number(whole.split(' ')[1]), status, `${name}: ${whole}`);
        }),
      );
    }
  };

  const forms = Object.entries(FORMS);
  let count = 0;
  for (const [form, write] of forms) {
    const shapes = Object.entries(REQUESTS)
      .map(([name, [method, target, headers, body]]) => [`${name}, ${form}`, write(method, target, headers, body)])
      .filter(([, text]) => text);
    count += shapes.length;
    test(`${form} is answered the same, whole, in parts and byte by byte (${shapes.length} shapes)`, (t) => check(t, shapes));
  }
  test('that is wrong is refused the same, with its status', (t) =>
    check(t, Object.entries(WRONG).map(([name, [text, status]]) => [name, text.length > 4000 ? text.slice(0, -4) + '\r\n\r\n' : text, status])));
  test('was looked at in many shapes', () => assert.ok(count >= 300, `${count}`));

  test('that HTTP/1.1 refuses is told so as a problem', async (t) => {
    const codes = { 400: 'request-invalid', 431: 'request-head-too-large', 501: 'transfer-coding-unknown', 505: 'version-unknown' };
    for (const name of ['a folded line', 'two lengths', 'too many headers', 'another coding', 'a version to come']) {
      const [text, status] = WRONG[name];
      const answer = await exchange(t, broker, [text]);
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*\\r\\nconnection: close\\r\\n[\\s\\S]*"code":"${codes[status]}"`), name);
    }
  });

  test('of a client that waits to be told to go on is told so, unless it is refused', async (t) => {
    const own = freshTopic();
    const head = (target, size) => `POST ${target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: ${size}\r\n\r\n`;
    const raw = await Raw.open(t, broker.port);
    await raw.send(head(`/topics/${own}`, 5));
    await raw.until(/^HTTP\/1\.1 100 Continue\r\n\r\n$/);
    await raw.send('hello');
    await raw.until(/\r\n\r\nHTTP\/1\.1 201 /);
    for (const [target, size, status] of [['/topics/*', 5, 400], [`/topics/${own}`, 5 << 20, 413], ['/topics/a%2Fb', 5, 400]]) {
      const refused = await Raw.open(t, broker.port);
      await refused.send(head(target, size));
      assert.match(await refused.end(), new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*\\r\\nconnection: close\\r\\n`));
    }
  });

  test('that shakes hands may spread its lists over lines, in any order', async (t) => {
    const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
    const shake = (lines) => `GET /stream HTTP/1.1\r\nHost: localhost\r\nSec-WebSocket-Version: 13\r\n${lines.join('\r\n')}\r\n\r\n`;
    const good = [
      ['Connection: keep-alive', 'Connection: Upgrade', 'Upgrade: websocket', key],
      ['Connection: Upgrade, keep-alive', 'Upgrade: h2c, websocket', key],
      ['Connection: keep-alive, upgrade', 'Upgrade: h2c', 'Upgrade: WebSocket', key],
      ['Upgrade: websocket, h2c', key, 'Connection: x', 'Connection: y, Upgrade'],
    ];
    for (const lines of good) {
      const raw = await Raw.open(t, broker.port);
      await raw.send(shake(lines));
      await raw.until(/^HTTP\/1\.1 101 [\s\S]*welcome/);
      raw.close();
    }
    const twice = ['Connection: Upgrade', 'Upgrade: websocket', key, key];
    assert.match(await exchange(t, broker, [shake(twice)]), /^HTTP\/1\.1 400 [\s\S]*"code":"handshake-invalid"/);
  });

  test('is one of many in a row, each answered in its turn', async (t) => {
    const [own, total] = [freshTopic(), 200];
    const commits = async () => Number(/^tailwire_commits_total (\d+)$/m.exec(await broker.metrics())[1]);
    const raw = await Raw.open(t, broker.port);
    const publishes = numbers(total).map((n) => written('POST', `/topics/${own}`, '1.1', ['Host: localhost', JSON_TYPE, ...length(`${n}`)], `${n}`));
    const before = await commits();
    await raw.send(`${publishes.join('')}GET /topics/${own}?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    const [, page] = await raw.until(/\r\n\r\n(\{"messages":[\s\S]*\})$/);
    const { messages } = JSON.parse(page);
    assert.deepEqual(messages.map(({ data }) => data), numbers(total));
    const cursors = [...raw.text.matchAll(/\r\n\r\n\{"cursor":"([^"]+)"/g)].map(([, cursor]) => cursor);
    assert.deepEqual(cursors, messages.map(({ cursor }) => cursor), 'receipts are not in order');
    const shared = total / ((await commits()) - before);
    t.diagnostic(`${shared.toFixed(1)} publishes a commit`);
    assert.ok(shared > 5, `only ${shared} publishes a commit`);
  });

  test('that is refused among publishes in a row is refused in its turn, and what is no publish waits for them', async (t) => {
    const own = freshTopic();
    const publishing = (body, target = `/topics/${own}`) => written('POST', target, '1.1', ['Host: localhost', JSON_TYPE, ...length(body)], body);
    const get = `GET /topics/${own}?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n`;
    const remove = `DELETE /topics/${own} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
    const all = [publishing('1'), publishing('{'), publishing('2', '/topics/*'), publishing('3'), get, remove, publishing('4'), get];
    const text = await exchange(t, broker, [all.join('')]);
    assert.deepEqual(text.match(/(?<=HTTP\/1\.1 )\d{3}/g), ['201', '400', '400', '201', '200', '204', '201', '200']);
    const pages = [...text.matchAll(/\{"messages":.*?"more":false\}/g)].map(([page]) => JSON.parse(page).messages.map(({ data }) => data));
    assert.deepEqual(pages, [[1, 3], [4]]);
  });

  test('is more than is read at once', async (t) => {
    const own = freshTopic();
    for (const size of [8 << 10, 64 << 10, 900 << 10]) {
      const raw = await Raw.open(t, broker.port);
      await raw.send(written('POST', `/topics/${own}`, '1.1', ['Host: localhost', `Content-Length: ${size}`], 'x'.repeat(size)));
      await raw.until(/^HTTP\/1\.1 201 /);
      const answer = await fetch(`${broker.base}/topics/${own}?format=raw`);
      assert.equal((await answer.text()).length, size);
    }
  });
});

describe('a client that shuts its sending side', () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  const status = (text) => Number(text.split(' ')[1]);

  test('is answered, whatever the shape of its request', async (t) => {
    const lines = `${'x'.repeat(400_000)}`;
    const shapes = {
      'a chunked publish': written('POST', '/topics/half', '1.1', ['Host: localhost', 'Transfer-Encoding: chunked'], chunks('hello', 2)),
      'HTTP/1.0': written('POST', '/topics/half', '1.0', ['Content-Length: 5'], 'hello'),
      'asking to close': written('POST', '/topics/half', '1.1', ['Host: localhost', 'Connection: close', 'Content-Length: 5'], 'hello'),
      'a large body': written('POST', '/topics/half', '1.1', ['Host: localhost', `Content-Length: ${1 << 20}`], 'x'.repeat(1 << 20)),
      'a large body in chunks': written('POST', '/topics/half', '1.1', ['Host: localhost', 'Transfer-Encoding: chunked'], chunks(lines, 60_000)),
      'a large batch': (() => {
        const body = numbers(7).map(() => `"${'y'.repeat(1_000_000)}"`).join('\n');
        return written('POST', '/topics/half', '1.1', ['Host: localhost', LINES_TYPE, ...length(body)], body);
      })(),
      'waiting to be told to go on': written('POST', '/topics/half', '1.1', ['Host: localhost', 'Expect: 100-continue', 'Content-Length: 5'], 'hello'),
    };
    for (const [name, text] of Object.entries(shapes)) assert.equal(status(await exchange(t, broker, [text])), 201, name);
    assert.equal((await readAll(broker.base, '/topics/half')).length, 6 + 7);
    assert.equal(status(await exchange(t, broker, ['GET /topics/half?limit=1 HTTP/1.0\r\n\r\n'])), 200);
  });

  test('has its long-poll answered when the message comes, and all that it asked behind it', async (t) => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'first');
    const polls = ['HTTP/1.1\r\nHost: localhost', 'HTTP/1.0', 'HTTP/1.1\r\nHost: localhost\r\nConnection: close'].map(async (rest) => {
      const raw = await Raw.open(t, broker.port);
      raw.socket.end(`GET /topics/${topic}?wait=50&after=${cursor} ${rest}\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      return raw;
    });
    const waiting = async () => Number(/^tailwire_connections\{transport="long-poll"\} (\d+)$/m.exec(await broker.metrics())?.[1] ?? 0);
    await eventually(async () => (await waiting()) === polls.length, 'they wait');
    await publish(broker.base, topic, 'second');
    const [first, ...others] = await Promise.all((await Promise.all(polls)).map((raw) => raw.end()));
    assert.match(first, /^HTTP\/1\.1 200 [\s\S]*"data":"second"[\s\S]*HTTP\/1\.1 200 [\s\S]*"ok"/);
    for (const text of others) assert.match(text, /^HTTP\/1\.[01] 200 [\s\S]*"data":"second"/);
    await eventually(async () => (await waiting()) === 0, 'they are let go of');
  });
});

describe('a refusal', () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  const SIZE = 8 << 20;
  const EVIL = { Origin: 'https://evil.example' };
  const REFUSED = [
    ['POST', '/topics/refused', {}, 413],
    ['POST', '/topics/refused', EVIL, 403],
    ['POST', '/topics/*', {}, 400],
    ['GET', '/nowhere', {}, 404],
    ['PUT', '/healthz', {}, 405],
    ['GET', '/topics/a%2Fb', {}, 400],
  ];

  test('of a request whose body is still coming is read by Node', async () => {
    for (const [method, path, headers, status] of REFUSED) {
      for (const framing of [{ 'Content-Length': SIZE }, { 'Transfer-Encoding': 'chunked' }]) {
        const got = await new Promise((resolve, reject) => {
          const sent = http.request(broker.base + path, { method, headers: { ...headers, ...framing } }, (response) => {
            let text = '';
            response.on('data', (chunk) => (text += chunk)).on('end', () => resolve([response.statusCode, text]));
          });
          sent.on('error', reject);
          sent.end(Buffer.alloc(SIZE));
        });
        assert.equal(got[0], status, `${method} ${path}`);
        assert.match(got[1], /"code":/);
      }
    }
  });

  test('of a request whose body is still coming is read by curl', async () => {
    const file = `${broker.data}/large`;
    await (await import('node:fs/promises')).writeFile(file, Buffer.alloc(SIZE));
    for (const [method, path, headers, status] of REFUSED) {
      for (const more of [['-H', 'Expect:'], [], ['-H', 'Transfer-Encoding: chunked']]) {
        const header = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
        const text = await curl('-X', method, ...header, ...more, '--path-as-is', '--data-binary', `@${file}`, '-w', '%{http_code}', broker.base + path);
        assert.match(text, new RegExp(`"code":[\\s\\S]*${status}$`), `${method} ${path} ${more}`);
      }
    }
  });

  test('leaves a connection open that can go on, and a GET with a late body is answered', async (t) => {
    const raw = await Raw.open(t, broker.port);
    const body = 'y'.repeat(5000);
    await raw.send(`GET /topics/late HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n`);
    await raw.until(/^HTTP\/1\.1 202 [\s\S]*\}$/);
    await raw.send(body);
    await raw.send(`GET /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello`);
    await raw.until(/HTTP\/1\.1 404 /);
    await raw.send('\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await raw.until(/HTTP\/1\.1 404 [\s\S]*HTTP\/1\.1 200 /);
  });

  test('over HTTP/2 comes before the stream is reset', async (t) => {
    const session = connectHttp2(broker.base, { maxSessionMemory: 500 });
    t.after(() => session.destroy());
    const ask = (headers, body) =>
      new Promise((resolve, reject) => {
        const stream = session.request(headers);
        const got = { text: '' };
        stream.on('response', (response) => (got.status = response[':status']));
        stream.on('data', (chunk) => (got.text += chunk));
        stream.on('end', () => resolve(got));
        stream.on('error', (error) => (got.status ? resolve(got) : reject(error)));
        stream.end(body);
      });
    const post = { ':method': 'POST', ':path': '/topics/refused' };
    for (const headers of [post, { ...post, 'content-length': 40 << 20 }]) {
      const { status, text } = await ask(headers, Buffer.alloc(40 << 20));
      assert.equal(status, 413);
      assert.match(text, /"code":"body-too-large"/);
    }
    const many = Object.fromEntries(numbers(400).map((n) => [`x-${n}`, 'y']));
    assert.equal((await ask({ ':path': '/healthz', ...many })).status, 431);
    assert.equal((await ask({ ':path': '/healthz', ':authority': `127.0.0.1:${broker.port}`, host: 'localhost:1' })).status, 400);
    assert.equal((await ask({ ':path': '/healthz', ':authority': `127.0.0.1:${broker.port}`, host: `127.0.0.1:${broker.port}` })).status, 200);
  });
});

describe('clients that have begun and go no further', () => {
  test('cost no time, whatever they have sent', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const begun = ['', 'P', 'PR', 'PRI * HTTP/2.0\r\n', 'G', 'POST /topics/a HTTP/1.1\r\nHost'];
    const clients = await Promise.all(numbers(600).map(() => Raw.open(t, broker.port)));
    await Promise.all(clients.map((raw, index) => raw.send(begun[index % begun.length])));
    await request(`${broker.base}/healthz`);
    const ticks = async () => {
      const fields = (await readFile(`/proc/${broker.pid}/stat`, 'utf8')).split(') ')[1].split(' ');
      return Number(fields[11]) + Number(fields[12]);
    };
    const before = await ticks();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const spent = (await ticks()) - before;
    t.diagnostic(`${spent} ticks in 2 s`);
    assert.ok(spent <= 10, `${spent} ticks in 2 s`);
  });

  test('share a bound of memory, beyond which they are refused, while small requests get through', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    await publish(broker.base, topic, 'warm');
    const resident = await broker.resident();
    const half = Buffer.concat([
      Buffer.from(`POST /topics/${topic} HTTP/1.1\r\nHost: localhost\r\n${LINES_TYPE}\r\nContent-Length: ${8 << 20}\r\n\r\n`),
      Buffer.alloc(7 << 20, 'x'),
    ]);
    const clients = await Promise.all(numbers(40).map(() => Raw.open(t, broker.port)));
    for (const raw of clients) raw.socket.write(half);
    const refused = () => clients.filter((raw) => /^HTTP\/1\.1 503 [\s\S]*"code":"overloaded"/.test(raw.text)).length;
    let most = 0;
    await eventually(async () => {
      assert.equal((await publish(broker.base, topic, 'small')).topic, topic);
      most = Math.max(most, (await broker.resident()) - resident);
      return refused() >= 10;
    }, 'nobody is refused', 60_000);
    t.diagnostic(`${refused()} of ${clients.length} refused, grown by ${(most / 2 ** 20).toFixed(0)} MiB`);
    assert.ok(most < 160 * 2 ** 20, `memory has grown by ${most / 2 ** 20} MiB`);
    clients.forEach((raw) => raw.close());
  });
});

describe('publishes of one connection', () => {
  test('are read no further than they can be taken, and all are taken', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    const raw = await Raw.open(t, broker.port);
    const total = 5000;
    const body = 'x'.repeat(500);
    await raw.send(numbers(total).map(() => written('POST', `/topics/${topic}`, '1.1', ['Host: localhost', ...length(body)], body)).join(''));
    await eventually(() => (raw.text.match(/HTTP\/1\.1 201 /g) ?? []).length === total, 'not all are answered');
    assert.equal((await readAll(broker.base, `/topics/${topic}`)).length, total);
    await publishBatch(broker.base, topic, [1]);
  });
});
