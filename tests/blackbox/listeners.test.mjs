// Where the broker listens: several listeners with rules of their own, sockets that are passed, and proxies in between.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';

import { Broker, BINARY, configured, emptyFolder, eventually, run } from './support/broker.mjs';
import { assertProblem, freshTopic, publish, request, requestBy } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { exchange, Raw } from './support/raw.mjs';
import { SECTION } from './support/tokens.mjs';

/** Starts a broker by a settings file, and gives it with the ports of its listeners for clients. */
async function started(t, settings, more) {
  const broker = await configured(t, settings, more);
  broker.ports = [...broker.stdout.matchAll(/address\s+https?:\/\/\S+?:(\d+)/g)].map(([, port]) => Number(port));
  return broker;
}

/** A request over a Unix socket. */
const overUnix = (socketPath, target, { method = 'GET', headers = {}, body } = {}) =>
  requestBy({ socketPath, path: target, method, headers }, body);

/** One request with some header lines, on a connection of its own; gives status, head and code. */
async function ask(t, port, method, target, headers = {}, { before = '', body = '' } = {}) {
  const all = { Host: `localhost:${port}`, Connection: 'close', ...(body && { 'Content-Length': body.length }), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n${body}`);
  const text = await exchange(t, port, Buffer.concat([Buffer.from(before), head]));
  return { text, status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]), code: /"code":"([^"]+)"/.exec(text)?.[1] };
}

describe('several listeners', () => {
  test('serve the same topics over TCP and a Unix socket', async (t) => {
    const broker = await started(t, `listen = ["127.0.0.1:0", { address = "unix:DATA/own.sock", mode = "600" }, "127.0.0.1:0"]`);
    const socket = path.join(broker.folder, 'own.sock');
    assert.equal((await stat(socket)).mode & 0o777, 0o600);
    assert.equal(broker.ports.length, 2);
    const topic = freshTopic();
    assert.equal((await overUnix(socket, `/topics/${topic}`, { method: 'POST', body: 'by unix' })).status, 201);
    await publish(`http://127.0.0.1:${broker.ports[1]}`, topic, 'by the second');
    const page = await request(`${broker.base}/topics/${topic}`);
    assert.deepEqual(page.json.messages.map(({ data }) => data), ['by unix', 'by the second']);
    const stream = await overUnix(socket, `/topics/${topic}?format=raw`);
    assert.equal(stream.text, 'by the second');
    // Nobody can lead a browser to a Unix socket, so that any host will do.
    assert.equal((await overUnix(socket, '/topics', { headers: { host: 'rt.example.com' } })).status, 200);
    await broker.end('SIGTERM');
    await assert.rejects(stat(socket), { code: 'ENOENT' });
  });

  test('a WebSocket and a stream leave HTTP over a Unix socket too', async (t) => {
    const broker = await started(t, `listen = ["127.0.0.1:0", "unix:DATA/own.sock"]`);
    const socket = path.join(broker.folder, 'own.sock');
    const topic = freshTopic();
    const web = await LineSocket.open(t, `ws+unix:${socket}:`, `/topics/${topic}`);
    const stream = connect(socket);
    t.after(() => stream.destroy());
    let heard = '';
    stream.setEncoding('utf8').on('data', (chunk) => (heard += chunk));
    stream.write(`GET /topics/${topic}?format=ndjson HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await eventually(() => heard.includes('200 OK'), 'no stream');
    await publish(broker.base, topic, 'to both');
    await eventually(() => heard.includes('to both'), 'no message');
    assert.equal((await eventually(() => web.all.find(({ kind }) => kind === 'message'), 'no message')).data, 'to both');
  });

  test('a socket that a killed broker left is taken over; that of one that runs is not', async (t) => {
    const settings = `listen = ["127.0.0.1:0", "unix:DATA/own.sock"]`;
    const broker = await started(t, settings);
    const second = await run(['serve', '--listen', `unix:${broker.folder}/own.sock`, '--data', await emptyFolder()]);
    assert.equal(second.code, 1);
    assert.match(second.stderr, /unix:\S+own\.sock is in use by another process/);
    await broker.crash();
    assert.equal((await overUnix(path.join(broker.folder, 'own.sock'), '/readyz')).status, 200);
  });

  test('an address that is there twice is said to be, and leaves no file', async () => {
    const folder = await emptyFolder();
    for (const flag of ['--listen', '--admin-listen']) {
      const { code, stderr } = await run(['serve', '--listen', `unix:${folder}/own.sock`, flag, `unix:${folder}/own.sock`, '--data', path.join(folder, 'log')]);
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`own\\.sock is taken by another listener of this broker; choose another with ${flag}\\n`));
      await assert.rejects(stat(path.join(folder, 'own.sock')), { code: 'ENOENT' });
    }
  });

  test('one that others can reach has to be decided on, wherever it stands in the list', async () => {
    const args = ['--listen', '127.0.0.1:0', '--listen', '0.0.0.0:0', '--data', await emptyFolder()];
    const refused = await run(['serve', ...args]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /0\.0\.0\.0:\d+ can be reached by others.*--insecure-public/);
  });
});

describe('a listener for reading', () => {
  test('changes nothing, whatever the transport', async (t) => {
    const broker = await started(t, `listen = ["127.0.0.1:0", { address = "127.0.0.1:0", read_only = true }]`);
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'there');
    const { json: before } = await request(`${broker.base}/topics/${topic}`);
    const base = `http://127.0.0.1:${broker.ports[1]}`;
    for (const [method, target, body] of [
      ['POST', `/topics/${topic}`, 'x'],
      ['POST', `/topics/${topic}`, 'x'.repeat(500_000)],
      ['DELETE', `/topics/${topic}`],
      ['POST', '/stream', '{}'],
      ['PUT', `/options/${topic}`, '{"max_messages":1}'],
      ['DELETE', `/options/${topic}`],
      ['POST', '/keys', '{}'],
      ['DELETE', '/keys/a'],
      ['POST', '/revocations', '{}'],
      ['DELETE', `/messages/${cursor}`],
    ]) {
      assertProblem(await request(base + target, { method, body }), 403, 'read-only');
    }
    const socket = await LineSocket.open(t, base);
    for (const line of [
      { kind: 'publish', topic, data: 'x' },
      { kind: 'publish', messages: [{ topic, data: 'x' }] },
      { kind: 'delete', topic },
      { kind: 'delete_message', cursor },
      { kind: 'set_options', topic, max_messages: 1 },
      { kind: 'delete_options', topic },
    ]) {
      const answer = await socket.ask(line);
      assert.deepEqual([answer.kind, answer.status, answer.code], ['error', 403, 'read-only'], JSON.stringify(answer));
    }
    // Reading is as ever.
    assert.equal((await socket.ask({ kind: 'subscribe', topic })).kind, 'ok');
    assert.equal((await socket.ask({ kind: 'page', topic })).messages.length, 1);
    const queried = await request(`${base}/stream`, {
      method: 'QUERY',
      body: `topic=${topic}`,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    assert.deepEqual(queried.json.messages, before.messages);
    assert.deepEqual((await request(`${base}/topics/${topic}`)).json, before);
    await publish(broker.base, topic, 'more');
    assert.equal((await eventually(() => socket.all.find(({ kind }) => kind === 'message'), 'no message')).data, 'more');
  });
});

describe('operations', () => {
  test('have a listener of their own, and the public one says where metrics went', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    for (const target of ['/metrics', '/healthz', '/readyz']) {
      assert.equal((await request(broker.operations + target)).status, 200, target);
    }
    for (const target of ['/', '/topics', '/topics/a', '/stream', '/openapi.json', '/client.js', '/options', '/keys']) {
      const { detail } = assertProblem(await request(broker.operations + target), 404, 'not-found');
      assert.match(detail, /for operations/, target);
    }
    assertProblem(await request(`${broker.operations}/topics/a`, { method: 'POST', body: 'x' }), 404, 'not-found');
    const gone = assertProblem(await request(`${broker.base}/metrics`), 404, 'not-found');
    assert.match(gone.detail, /--admin-listen 127\.0\.0\.1:8246/);
    const port = Number(new URL(broker.operations).port);
    assert.equal((await ask(t, port, 'GET', '/metrics', { Host: 'evil.example' })).status, 421);
  });

  test('need no credential, and are there without a listener as far as health goes', async (t) => {
    const broker = await started(t, `listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n${SECTION}`);
    assert.match(await broker.metrics(), /tailwire_commits_total/);
    const plain = await started(t, 'listen = "127.0.0.1:0"');
    assert.equal(plain.operations, undefined);
    assert.equal((await request(`${plain.base}/healthz`)).status, 200);
    assert.equal((await request(`${plain.base}/metrics`)).status, 404);
  });
});

describe('socket activation', () => {
  // As a service manager does it: open files from 3 on, and their number in the environment.
  const PASS = `
import os, socket, sys
def tcp():
    own = socket.create_server(("127.0.0.1", 0))
    return own
def unix():
    own = socket.socket(socket.AF_UNIX)
    own.bind(sys.argv[1] + "/passed.sock")
    own.listen()
    return own
sockets = [tcp(), unix()]
for number, own in enumerate(sockets):
    os.dup2(own.fileno(), 10 + number)
for number in range(len(sockets)):
    os.dup2(10 + number, 3 + number, inheritable=True)
os.environ |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
`;
  const passed = (folder, ...listen) => {
    const addresses = listen.flatMap((address) => ['--listen', address]);
    return ['-c', PASS, folder, BINARY, 'serve', ...addresses, '--data', path.join(folder, 'log')];
  };

  test('listens on the sockets that are passed', async (t) => {
    const folder = await emptyFolder();
    const broker = await Broker.start({ program: 'python3', serve: passed(folder, 'systemd', 'systemd:1') });
    t.after(() => broker.stop());
    const topic = freshTopic();
    await publish(broker.base, topic, 'x');
    assert.equal((await overUnix(path.join(folder, 'passed.sock'), `/topics/${topic}?format=raw`)).text, 'x');
    await broker.end('SIGTERM');
    // It is the manager's, which starts us again by it.
    assert.ok((await stat(path.join(folder, 'passed.sock'))).isSocket());
  });

  test('one that nobody serves, or that is not passed, is refused', async () => {
    const unused = await run(passed(await emptyFolder(), 'systemd:0'), { program: 'python3' });
    assert.match(unused.stderr, /socket 1 is passed, and no listener is for it/);
    const missing = await run(passed(await emptyFolder(), 'systemd:0', 'systemd:1', 'systemd:2'), { program: 'python3' });
    assert.match(missing.stderr, /no socket 2 is passed/);
    assert.deepEqual([unused.code, missing.code], [1, 1]);
  });
});

describe('the PROXY protocol', () => {
  // The trusted header is believed from one network only, so that it shows which address counts.
  const settings = (listen) => `listen = [${listen}]
public_urls = ["https://rt.example.com"]
[access]
[access.trusted_header]
name = "X-Forwarded-User"
from = ["203.0.113.0/24", "2001:db8::/32"]
[[access.rule]]
who = "header"
publish = ["users/{sub}"]
`;
  const PROXIED = '{ address = "127.0.0.1:0", proxy_protocol = true }';
  const ALICE = { 'X-Forwarded-User': 'alice' };
  const v2 = (command, family, ...rest) => {
    const payload = Buffer.concat(rest.map((part) => Buffer.from(part)));
    const head = Buffer.from([13, 10, 13, 10, 0, 13, 10, 0x51, 0x55, 0x49, 0x54, 10, command, family, payload.length >> 8, payload.length & 255]);
    return Buffer.concat([head, payload]);
  };

  test('says whose the connection is, in both versions', async (t) => {
    const broker = await started(t, settings(PROXIED), { ready: false });
    const port = broker.ports[0];
    for (const [before, status] of [
      ['PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\n', 201],
      ['PROXY TCP6 2001:db8::1 ::1 4711 443\r\n', 201],
      ['PROXY TCP4 198.51.100.1 127.0.0.1 4711 443\r\n', 401],
      ['PROXY UNKNOWN\r\n', 401],
      [v2(0x21, 0x11, [203, 0, 113, 9, 127, 0, 0, 1, 0, 80, 0, 80]), 201],
      [v2(0x21, 0x11, [198, 51, 100, 1, 127, 0, 0, 1, 0, 80, 0, 80], [0x20, 0, 5, 1, 0, 0, 0, 0]), 401],
      [v2(0x20, 0x00), 401],
    ]) {
      const answer = await ask(t, port, 'POST', '/topics/users/alice', ALICE, { before, body: 'x' });
      assert.equal(answer.status, status, String(before));
    }
  });

  test('what comes without it, or with a broken one, is no connection', async (t) => {
    const broker = await started(t, settings(PROXIED), { ready: false });
    const port = broker.ports[0];
    for (const before of ['', 'PROXY TCP4 a b 1 2\r\n', 'PROXY ' + 'x'.repeat(200), v2(0x21, 0x11, [1, 2, 3]), v2(0x21, 0x11, Buffer.alloc(5000))]) {
      const answer = await ask(t, port, 'GET', '/readyz', {}, { before });
      assert.equal(answer.text, '', String(before));
    }
  });

  test('a header that never ends is given up on, and others are served meanwhile', async (t) => {
    const broker = await started(t, settings(PROXIED), { ready: false });
    const slow = await Promise.all(Array.from({ length: 20 }, () => Raw.open(t, broker.ports[0])));
    await Promise.all(slow.map((raw) => raw.send('PROXY TCP4 203.0.113.7 ')));
    const answer = await ask(t, broker.ports[0], 'GET', '/readyz', {}, { before: 'PROXY UNKNOWN\r\n' });
    assert.equal(answer.status, 200);
    await Promise.all(slow.map((raw) => raw.end()));
  });
});

describe('a proxy that is believed', () => {
  const own = (proxies, more = '') => `listen = "127.0.0.1:0"\ntrusted_proxies = [${proxies}]\n${more}`;
  const foreign = async (t, broker, headers) =>
    (await ask(t, broker.ports[0], 'POST', '/topics/a', { Origin: `http://localhost:${broker.ports[0]}`, ...headers }, { body: 'x' })).status === 403;

  test('says that its client uses TLS, and then a page without it is another', async (t) => {
    const broker = await started(t, own('"127.0.0.0/8"'));
    assert.equal(await foreign(t, broker, {}), false);
    assert.equal(await foreign(t, broker, { 'X-Forwarded-Proto': 'http' }), false);
    assert.equal(await foreign(t, broker, { 'X-Forwarded-Proto': 'https' }), true);
    assert.equal(await foreign(t, broker, { Forwarded: 'proto=https' }), false, 'not the header that is configured');
  });

  test('is one by its address, and by nothing that it says', async (t) => {
    const broker = await started(t, own('"10.0.0.0/8"'));
    assert.equal(await foreign(t, broker, { 'X-Forwarded-Proto': 'https' }), false);
    assert.equal(await foreign(t, broker, { 'X-Forwarded-Proto': 'https', 'X-Forwarded-For': '10.0.0.1' }), false);
    const forwarded = await started(t, own('"::1", "127.0.0.1"', 'proxy_header = "forwarded"'));
    assert.equal(await foreign(t, forwarded, { Forwarded: 'for=192.0.2.1;proto=https' }), true);
    assert.equal(await foreign(t, forwarded, { 'X-Forwarded-Proto': 'https' }), false);
  });
});
