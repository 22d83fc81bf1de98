// Clients that are broken, slow, or mean harm: they get what they deserve, and nobody else notices.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { after, before, describe, test } from 'node:test';

import { Broker, deadline, eventually } from './support/broker.mjs';
import { freshTopic, postLines, publish, request } from './support/http.mjs';
import { Raw, exchange, frame, rawWebSocket } from './support/raw.mjs';
import { TRANSPORTS, open } from './support/transports.mjs';

const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const transport = (name) => TRANSPORTS.find((one) => one.name === name);

/** A request by hand, on a connection of its own: status, head and code of the answer. */
async function ask(t, broker, method, path, headers = {}, body = '') {
  const all = { Host: `127.0.0.1:${broker.port}`, Connection: 'close', ...(body && { 'Content-Length': body.length }), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const raw = await Raw.open(t, broker.port);
  await raw.send(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`);
  const [head] = await raw.until(/^[\s\S]*?\r\n\r\n/);
  const status = Number(head.split(' ')[1]);
  if (status >= 400) await raw.until(/\r\n\r\n\{.*\}$/);
  raw.close();
  return { status, head: head.toLowerCase(), code: /"code":"([^"]*)"/.exec(raw.text)?.[1] };
}

const UPGRADE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

describe('pages from elsewhere', () => {
  let broker;
  let open;
  before(async () => {
    broker = await Broker.start();
    open = await Broker.start({ args: ['--allow-origin', 'https://app.example', '--allow-origin', 'http://two.example:8080'] });
  });
  after(async () => {
    await broker.stop();
    await open.stop();
  });

  for (const origin of ['https://evil.example', 'null', 'http://localhost.evil.example', 'http://127.0.0.1:1']) {
    test(`an unsafe method or an upgrade from ${origin} is 403`, async (t) => {
      const headers = { Origin: origin };
      const refused = { status: 403, code: 'foreign-origin' };
      const only = ({ status, code }) => ({ status, code });
      assert.deepEqual(only(await ask(t, broker, 'POST', '/topics/a', headers, 'x')), refused);
      assert.deepEqual(only(await ask(t, broker, 'POST', '/stream', { ...headers, 'Content-Type': 'application/x-ndjson' }, 'x')), refused);
      assert.deepEqual(only(await ask(t, broker, 'DELETE', '/topics/a', headers)), refused);
      assert.deepEqual(only(await ask(t, broker, 'GET', '/topics/a', { ...headers, ...UPGRADE })), refused);
      assert.deepEqual(only(await ask(t, broker, 'GET', '/stream', { ...headers, ...UPGRADE })), refused);
      const read = await ask(t, broker, 'GET', '/topics/a', headers);
      assert.ok(read.status < 300);
      assert.ok(!read.head.includes('access-control-allow-origin'));
      assert.equal((await request(`${broker.base}/topics/a`)).status, 202, 'something was stored');
    });
  }

  test("the broker's own origin may do all", async (t) => {
    const headers = { Origin: broker.base };
    assert.equal((await ask(t, broker, 'POST', '/topics/own', headers, 'x')).status, 201);
    assert.equal((await ask(t, broker, 'GET', '/topics/own', { ...headers, ...UPGRADE })).status, 101);
  });

  test('a preflight from elsewhere permits nothing, and may be read', async (t) => {
    const answer = await ask(t, broker, 'OPTIONS', '/topics/a', { Origin: 'https://evil.example', 'Access-Control-Request-Method': 'POST' });
    assert.deepEqual([answer.status, answer.code], [403, 'foreign-origin']);
    assert.match(answer.head, /access-control-allow-origin: \*\r/);
    assert.ok(!/access-control-allow-(methods|headers|credentials)/.test(answer.head), answer.head);
  });

  test('an allowed origin may do all, and see what it needs', async (t) => {
    for (const origin of ['https://app.example', 'http://two.example:8080']) {
      const headers = { Origin: origin };
      const preflight = await ask(t, open, 'OPTIONS', '/topics/a', {
        ...headers,
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'content-type, idempotency-key',
      });
      assert.ok(preflight.status === 204 || preflight.status === 200);
      assert.match(preflight.head, new RegExp(`access-control-allow-origin: ${origin}\r`));
      assert.match(preflight.head, /access-control-allow-methods: .*post/);
      assert.match(preflight.head, /access-control-allow-headers: .*idempotency-key/);
      const answers = [
        await ask(t, open, 'POST', '/topics/b', headers, 'x'),
        await ask(t, open, 'GET', '/topics/b', headers),
        await ask(t, open, 'GET', '/topics/b?format=sse', headers),
        await ask(t, open, 'GET', '/topics/b?format=ndjson', headers),
        await ask(t, open, 'GET', '/topics/b//c', headers),
      ];
      assert.deepEqual(answers.map(({ status }) => status), [201, 200, 200, 200, 400]);
      for (const { head } of answers) {
        assert.match(head, new RegExp(`access-control-allow-origin: ${origin}\r`));
        assert.match(head, /access-control-expose-headers: .*tailwire-cursor/);
        assert.match(head, /vary: .*origin/);
      }
      assert.equal((await ask(t, open, 'GET', '/topics/b', { ...headers, ...UPGRADE })).status, 101);
    }
    assert.equal((await ask(t, open, 'POST', '/topics/b', { Origin: 'https://app.example.evil.example' }, 'x')).status, 403);
  });

  test('a loopback listener answers only for loopback hosts', async (t) => {
    for (const host of ['evil.example', 'localhost.evil.example', '10.0.0.1', `evil.example:${broker.port}`, '127.0.0.1.evil.example', '']) {
      for (const [method, path] of [['GET', '/topics/a'], ['GET', '/openapi.json'], ['POST', '/topics/a']]) {
        const { status, code } = await ask(t, broker, method, path, { Host: host }, method === 'POST' ? 'x' : '');
        assert.deepEqual([status, code], [421, 'foreign-host'], host);
      }
      // Probes ask by an address, and there is nothing private in the answer.
      for (const path of ['/healthz', '/readyz']) {
        assert.equal((await ask(t, broker, 'GET', path, { Host: host })).status, 200, host);
      }
    }
    for (const host of ['localhost', `LOCALHOST:${broker.port}`, '127.0.0.1', '127.1.2.3', '[::1]', 'app.localhost']) {
      assert.equal((await ask(t, broker, 'GET', '/openapi.json', { Host: host })).status, 200, host);
    }
  });
});

describe('what is not HTTP', () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  const head = (lines) => `POST /topics/hostile HTTP/1.1\r\nHost: localhost\r\n${lines}\r\n\r\n`;
  const GARBAGE = {
    'random bytes': () => randomBytes(4096),
    'a TLS hello': () => Buffer.from('16030100c8010000c40303', 'hex'),
    'line breaks': () => '\r\n'.repeat(10_000),
    'a version from the future': () => 'GET /topics/a HTTP/9.9\r\nHost: localhost\r\n\r\n',
    'no version': () => 'GET /topics/a\r\n\r\n',
    'two lengths': () => `${head('Content-Length: 1\r\nContent-Length: 2')}ab`,
    'a negative length': () => `${head('Content-Length: -1')}ab`,
    'a length that overflows': () => `${head('Content-Length: 99999999999999999999999')}ab`,
    'a chunk that is none': () => `${head('Transfer-Encoding: chunked')}zz\r\nab\r\n0\r\n\r\n`,
    'a chunk that overflows': () => `${head('Transfer-Encoding: chunked')}fffffffffffffffff\r\nab`,
    'a header without a name': () => head(': x'),
    'a zero byte in a header': () => head('X: a\0b'),
    'an HTTP/2 preface and garbage': () => Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), randomBytes(1024)]),
  };
  for (const [name, bytes] of Object.entries(GARBAGE)) {
    test(`${name}: refused, and closed`, async (t) => {
      const raw = await Raw.open(t, broker.port);
      await raw.send(bytes());
      raw.socket.end();
      const text = await raw.end();
      if (text.startsWith('HTTP/1.')) assert.match(text, /^HTTP\/1\.[01] (4\d\d|50[15]) /);
      assert.equal((await request(`${broker.base}/topics/hostile`)).status, 202, 'something was stored');
    });
  }

  test('both a length and chunks: nothing is smuggled in', async (t) => {
    const smuggled = 'POST /topics/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx';
    const both = head(`Content-Length: ${smuggled.length + 5}\r\nTransfer-Encoding: chunked\r\nConnection: close`);
    const text = await exchange(t, broker.port, `${both}0\r\n\r\n${smuggled}`);
    assert.ok((text.match(/HTTP\/1\.1 /g) ?? []).length <= 1, text);
    assert.equal((await request(`${broker.base}/topics/smuggled`)).status, 202);
  });

  const HUGE = {
    'a huge header': `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`,
    'too many headers': `GET /healthz HTTP/1.1\r\nHost: localhost\r\n${'X: y\r\n'.repeat(100)}\r\n`,
  };
  for (const [name, bytes] of Object.entries(HUGE)) {
    test(`${name} is 431`, async (t) => assert.match(await exchange(t, broker.port, bytes), /^HTTP\/1\.1 431 /));
  }

  test('a URL without end is refused', async (t) => {
    assert.match(await exchange(t, broker.port, `GET /topics/${'x'.repeat(200_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`), /^HTTP\/1\.1 4(00|14|31) /);
  });

  test('2,000 connections that come and go, in all states, leave nothing behind', async (t) => {
    const states = [
      '',
      'GET /topics/a HTTP/1.1\r\nHo',
      'GET /topics/a?format=sse HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /topics/**?format=ndjson HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /topics/a?wait=50&after=latest HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf',
      `GET /topics/a HTTP/1.1\r\nHost: localhost\r\n${Object.entries(UPGRADE).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
    ];
    const wave = async () => {
      const connections = await Promise.all(numbers(200).map(() => Raw.open(undefined, broker.port)));
      await Promise.all(connections.map((raw, index) => raw.send(states[index % states.length])));
      await publish(broker.base, 'a', 'x');
      // A poll whose client only shuts its sending side is answered in its time.
      for (const raw of connections) raw.socket.resetAndDestroy();
    };
    const descriptors = await broker.descriptors();
    for (const _ of numbers(2)) await wave();
    await eventually(async () => (await broker.descriptors()) <= descriptors + 5, 'descriptors are kept');
    const warm = await broker.resident();
    for (const _ of numbers(10)) await wave();
    await eventually(async () => (await broker.descriptors()) <= descriptors + 5, 'descriptors are kept');
    const grown = ((await broker.resident()) - warm) / 2 ** 20;
    t.diagnostic(`grown by ${grown.toFixed(1)} MiB`);
    assert.ok(grown < 16, `memory has grown by ${grown} MiB`);
    assert.ok(!/panicked/.test(broker.stderr), broker.stderr);
  });
});

describe('clients that ask for much and take nothing', () => {
  /** What a promise gives, if it does before any of these is closed: patience with them is not what it waited for. */
  const before = (closing, promise, why) => {
    const late = deadline(why);
    const over = new AbortController();
    const ends = closing.map((own) => once(own, 'close', { signal: over.signal }).then(() => Promise.reject(new Error(why))));
    ends.forEach((end) => end.catch(() => {}));
    return Promise.race([promise, late, ...ends]).finally(() => (late.cancel(), over.abort()));
  };

  test('the first bytes of HTTP/2 may come one by one', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const raw = await Raw.open(t, broker.port);
    for (const byte of 'PRI * HTTP/2.0') {
      await raw.send(byte);
      // Nothing answers them: only time tells that each came by itself.
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    await raw.send('\r\n\r\nSM\r\n\r\n');
    // An empty SETTINGS frame (RFC 9113 §6.5), which the broker answers with its own and an acknowledgement.
    await raw.send(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    await raw.until(/\x04\x01\x00\x00\x00\x00/);
    raw.close();
  });

  test("HTTP/2 streams whose windows are closed don't keep others from reading", async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    for (const _ of numbers(4)) await postLines(`${broker.base}/topics/${topic}`, numbers(500).map(() => 'x'.repeat(1000)));
    const bounds = [];
    const sessions = [];
    for (const _ of numbers(8)) {
      const session = connect(broker.base, { settings: { initialWindowSize: 1 } });
      t.after(() => session.destroy());
      sessions.push(session);
      session.on('error', () => {});
      const [settings] = await once(session, 'remoteSettings');
      bounds.push(settings.maxConcurrentStreams);
      const heads = numbers(100).map(() => {
        const stream = session.request({ ':path': `/topics/${topic}?format=ndjson&after=earliest` });
        stream.on('error', () => {});
        return once(stream.pause(), 'response');
      });
      await before(sessions, Promise.all(heads), 'no heads');
    }
    for (const _ of numbers(5)) {
      const page = await before(sessions, request(`${broker.base}/topics/${topic}?after=earliest`), 'nobody reads any more');
      assert.equal(page.json.messages.length, 100);
    }
    assert.deepEqual(bounds, Array(8).fill(100));
  });

  test('pages over HTTP/2 that nobody takes are not kept for long', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    await publish(broker.base, topic, 'x'.repeat(1_000_000));
    const resident = await broker.resident();
    const sessions = numbers(8).map(() => connect(broker.base, { settings: { initialWindowSize: 1 } }));
    const ends = sessions.map(async (session) => {
      session.on('error', () => {});
      await once(session, 'remoteSettings');
      for (const _ of numbers(80)) {
        const stream = session.request({ ':path': `/topics/${topic}?after=earliest` });
        stream.on('error', () => {});
        stream.pause();
      }
      await once(session, 'close');
    });
    // Those who hold what is too much for all are closed, and memory is there for others.
    const late = deadline('nobody is closed');
    await Promise.race([Promise.any(ends), late]).finally(late.cancel);
    await eventually(async () => (await broker.resident()) - resident < 300 * 2 ** 20, 'it is kept');
    const page = await request(`${broker.base}/topics/${topic}?after=earliest`);
    assert.equal(page.json.messages.length, 1);
    sessions.forEach((session) => session.destroy());
  });

  test('a WebSocket is answered no further than it reads, and then gets all', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    const cursors = ['earliest'];
    for (const _ of numbers(64)) cursors.push((await publish(broker.base, topic, 'x'.repeat(900_000))).cursor);
    const ask = (id, more) => frame(1, JSON.stringify({ kind: 'page', id, topic, limit: 1, ...more }));
    const resident = await broker.resident();
    const sockets = await Promise.all(numbers(3).map(() => rawWebSocket(t, broker.port)));
    for (const raw of sockets) {
      raw.socket.pause();
      await raw.send(Buffer.concat(numbers(64).map((id) => ask(id, { after: cursors[id], wait: id % 2 }))));
    }
    // They have had time for all of it.
    for (const _ of numbers(10)) {
      const began = performance.now();
      const read = request(`${broker.base}/topics/${topic}?after=earliest&limit=1`);
      const page = await before(sockets.map((raw) => raw.socket), read, 'nobody reads any more');
      assert.equal(page.json.messages.length, 1);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, 200 - (performance.now() - began))));
    }
    const grown = ((await broker.resident()) - resident) / 2 ** 20;
    t.diagnostic(`grown by ${grown.toFixed(1)} MiB`);
    assert.ok(grown < 64, `memory has grown by ${grown} MiB`);
    // Once it reads, it is given all the rest.
    const [{ socket }] = sockets;
    const answered = new Set();
    socket.removeAllListeners('data');
    socket.on('data', (chunk) => chunk.toString('latin1').match(/"id":\d+/g)?.forEach((id) => answered.add(id)));
    socket.resume();
    await eventually(() => answered.size >= 60, `only ${answered.size} are answered`);
  });

  test('connections beyond the limit of open files wait, and leave the store its own', async (t) => {
    const files = 256;
    const broker = await Broker.start({ files });
    t.after(() => broker.stop());
    const topic = freshTopic();
    const stream = `GET /topics/${topic}?format=ndjson HTTP/1.1\r\nHost: localhost\r\n\r\n`;
    const clients = await Promise.all(numbers(files).map(() => Raw.open(t, broker.port)));
    await Promise.all(clients.map((raw) => raw.send(stream)));
    const answered = () => clients.filter((raw) => raw.text.includes('heartbeat'));
    await eventually(() => /too many open files/i.test(broker.stderr), 'it is not said');
    // Those who were let in are served, in whatever time that takes, and then nobody else is.
    let count = 0;
    await eventually(async () => {
      count = answered().length;
      await new Promise((resolve) => setTimeout(resolve, 1500));
      return count > files / 4 && answered().length === count;
    }, 'none is answered, or there is no end of it');
    assert.ok(count < files);
    const [first] = answered();
    assert.ok((await broker.descriptors()) <= files - 60, `${await broker.descriptors()} of ${files} are open`);
    assert.equal(broker.stderr.match(/WARN/g).length, 1, broker.stderr);
    for (const raw of answered()) raw.close();
    await eventually(() => answered().length > count, 'those who wait are never served');
    assert.ok(first.text.includes('caught_up'));
    clients.forEach((raw) => raw.close());
    assert.equal((await request(`${broker.base}/healthz`)).status, 200);
  });
});

describe('slow clients', { concurrency: true }, () => {
  test('one that sends its head drop by drop is cut after about 10 s, while others are served', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const began = performance.now();
    const slow = await Promise.all(numbers(20).map(() => Raw.open(t, broker.port)));
    const drip = setInterval(() => slow.forEach((raw) => raw.socket.writable && raw.socket.write('X')), 200);
    t.after(() => clearInterval(drip));
    await Promise.all(slow.map((raw) => raw.send('GET /healthz HTTP/1.1\r\nX-')));
    let served = 0;
    let isOver = false;
    const ends = Promise.all(slow.map((raw) => raw.end(25_000))).finally(() => (isOver = true));
    while (!isOver) {
      assert.equal((await request(`${broker.base}/healthz`)).status, 200);
      served += 1;
    }
    await ends;
    const seconds = (performance.now() - began) / 1000;
    assert.ok(seconds > 5 && seconds < 15, `cut after ${seconds} s`);
    assert.ok(served > 100);
  });

  test('one that sends half a body is cut after about 30 s, and nothing is stored', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const raw = await Raw.open(t, broker.port);
    await raw.send('POST /topics/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf');
    const text = await raw.end(45_000);
    assert.match(text, /^HTTP\/1\.1 408 /);
    assert.match(text, /"code":"timeout"/);
    assert.equal((await request(`${broker.base}/topics/half`)).status, 202);
  });

  test('subscribers that never read cost no memory and nobody time; they are closed, and their cursors resume', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    const path = `/topics/${topic}`;
    const data = 'x'.repeat(100_000);
    const flood = async (path) => {
      const answer = await postLines(`${broker.base}${path}`, numbers(50).map((n) => `${n}${data}`));
      assert.equal(answer.status, 201, answer.text);
      return answer.json.receipts.map(({ cursor }) => cursor);
    };
    // What the store itself keeps in memory is there before anybody listens.
    for (const _ of numbers(40)) await flood(`/topics/${freshTopic()}`);
    const resident = await broker.resident();
    const { cursor: starting } = await publish(broker.base, topic, 'starting');
    const head = (query, more = '') => `GET ${path}?after=${starting}${query} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
    const upgrade = Object.entries(UPGRADE).map(([name, value]) => `${name}: ${value}\r\n`).join('');
    const deaf = await Promise.all(numbers(6).map(() => Raw.open(t, broker.port, { paused: true })));
    await Promise.all(deaf.map((raw, index) => raw.send([head('&format=sse'), head('&format=ndjson'), head('', upgrade)][index % 3])));
    const listener = await open(t, transport('ndjson'), { base: broker.base, path, after: starting });
    const cursors = [];
    let most = 0;
    for (const _ of numbers(40)) {
      cursors.push(...(await flood(path)));
      const heard = await listener.messages(50);
      assert.equal(heard.at(-1).cursor, cursors.at(-1));
      most = Math.max(most, await broker.resident());
    }
    const grown = (most - resident) / 2 ** 20;
    t.diagnostic(`grown by ${grown.toFixed(1)} MiB`);
    assert.ok(grown < 100, `memory has grown by ${grown} MiB for 200 MB`);
    listener.close();
    const openConnections = async () =>
      [...(await broker.metrics()).matchAll(/^tailwire_connections\{transport="(?:websocket|sse|ndjson)"\} (\d+)/gm)].map(([, count]) => count);
    await eventually(async () => String(await openConnections()) === '0,0,0', 'they are not closed', 50_000);
    for (const raw of deaf) {
      raw.resume();
      await raw.end();
      const seen = [...raw.received.toString('latin1').matchAll(/[0-9a-v]{8}-[0-9a-v]{11}(?="|\n)/g)].map(([cursor]) => cursor);
      const last = seen.filter((cursor) => cursors.includes(cursor)).at(-1) ?? starting;
      // The last one may be cut; the one before it is whole.
      const at = Math.max(cursors.indexOf(last) - 1, -1);
      const resumed = await open(t, transport('long-poll'), { base: broker.base, path, after: cursors[at] ?? starting });
      assert.deepEqual((await resumed.messages(5)).map(({ cursor }) => cursor), cursors.slice(at + 1, at + 6));
      resumed.close();
    }
  });
});
