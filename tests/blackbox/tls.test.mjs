// TLS of the broker itself: every transport over both versions, certificates by name and replaced, and clients that don't
// finish a handshake.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import http2 from 'node:http2';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import tls from 'node:tls';
import { promisify } from 'node:util';

import { Broker, emptyFolder, eventually, run } from './support/broker.mjs';
import { certificate, get, open, replace, signedCertificate, until } from './support/certificates.mjs';
import { freshTopic } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { Raw } from './support/raw.mjs';

const exec = promisify(execFile);
const numbers = (count) => [...Array(count).keys()];

let broker;
let cert;
let ca;
before(async () => {
  broker = await Broker.start({ args: ['--tls-dev'] });
  cert = path.join(broker.data, 'tls-dev', 'cert.pem');
  ca = await readFile(cert);
});
after(() => broker?.stop());

const publish = async (topic, body, options = {}, base = broker.base) => {
  const answer = await get(`${base}/topics/${topic}`, { ca, body, headers: { 'content-type': 'text/plain' }, ...options });
  assert.equal(answer.status, 201, answer.text);
  return JSON.parse(answer.text);
};

/** The certificate that a client is shown. */
async function shown(port, servername) {
  const socket = tls.connect({ port, host: '127.0.0.1', servername, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { CN } = socket.getPeerCertificate().subject;
  socket.destroy();
  return CN;
}

for (const version of ['TLSv1.2', 'TLSv1.3']) {
  describe(version, () => {
    const options = () => ({ ca, minVersion: version, maxVersion: version, agent: false });

    test('publish and page', async () => {
      const topic = freshTopic();
      const { cursor } = await publish(topic, 'a', options());
      const page = await get(`${broker.base}/topics/${topic}`, options());
      assert.deepEqual(JSON.parse(page.text).messages.map(({ data }) => data), ['a']);
      assert.equal(page.headers['tailwire-cursor'], cursor);
    });

    test('a long-poll is answered by a publish', async () => {
      const topic = freshTopic();
      const { cursor } = await publish(topic, 'a');
      const poll = get(`${broker.base}/topics/${topic}?after=${cursor}&wait=25`, options());
      await publish(topic, 'b');
      const answer = await poll;
      assert.deepEqual(JSON.parse(answer.text).messages.map(({ data }) => data), ['b']);
    });

    for (const [format, line] of [
      ['sse', (data) => new RegExp(`data: ${data}\n\n`)],
      ['ndjson', (data) => new RegExp(`"data":"${data}"`)],
    ]) {
      test(`${format} gets what is stored, and then what comes`, async (t) => {
        const topic = freshTopic();
        await publish(topic, 'stored');
        const response = await open(`${broker.base}/topics/${topic}?format=${format}&after=earliest`, options());
        t.after(() => response.destroy());
        let text = await until(response, /caught_up/);
        assert.match(text, line('stored'));
        // The socket is idle, and the dispatcher writes by itself.
        for (const number of numbers(20)) {
          await publish(topic, `live-${number}`);
          text = await until(response, line(`live-${number}`));
        }
      });
    }

    test('a WebSocket publishes and gets', async (t) => {
      const topic = freshTopic();
      const socket = await LineSocket.open(t, broker.base, `/topics/${topic}`, options());
      await socket.linesUntil(({ kind }) => kind === 'caught_up');
      for (const number of numbers(20)) {
        const { kind } = await socket.ask({ kind: 'publish', topic, data: number });
        assert.equal(kind, 'ok');
        assert.equal((await socket.line()).data, number);
      }
    });

    test('a large message arrives whole in both directions', async (t) => {
      const topic = freshTopic();
      const body = 'abcdefghij'.repeat(90_000);
      const socket = await LineSocket.open(t, broker.base, `/topics/${topic}`, options());
      await publish(topic, body, options());
      const message = (await socket.linesUntil(({ kind }) => kind === 'message')).at(-1);
      assert.ok(message.data === body);
      const page = await get(`${broker.base}/topics/${topic}?format=raw`, options());
      assert.ok(page.text === body);
    });
  });
}

test('a stream that is read slowly loses nothing', async (t) => {
  const topic = freshTopic();
  const response = await open(`${broker.base}/topics/${topic}?format=ndjson`, { ca, agent: false });
  t.after(() => response.destroy());
  response.pause();
  const filler = 'x'.repeat(60_000);
  for (const number of numbers(200)) await publish(topic, `${number} ${filler}`);
  const text = await until(response, /"data":"199 x+"/);
  const came = text.split('\n').filter((line) => line.includes('"kind":"message"'));
  const whole = came.map((line) => JSON.parse(line).data).map((data) => [Number.parseInt(data, 10), data.length]);
  assert.deepEqual(whole, numbers(200).map((number) => [number, filler.length + 1 + `${number}`.length]));
});

test('HTTP/2 is agreed on, and serves streams and pages side by side', async (t) => {
  const topic = freshTopic();
  const session = http2.connect(broker.base, { ca });
  t.after(() => session.destroy());
  const stream = session.request({ ':path': `/topics/${topic}?format=sse` });
  stream.setEncoding('utf8');
  await until(stream, /caught_up/);
  assert.equal(session.alpnProtocol, 'h2');
  const post = session.request({ ':method': 'POST', ':path': `/topics/${topic}` });
  post.end('over h2');
  const [headers] = await once(post, 'response');
  assert.equal(headers[':status'], 201);
  await until(stream, /data: over h2\n/);
});

test('the JavaScript client and EventSource trust the certificate, on every transport', async () => {
  const script = new URL('./support/tls-client.mjs', import.meta.url).pathname;
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: cert };
  for (const transport of ['websocket', 'stream', 'long-poll', 'poll', 'eventsource']) {
    const { stdout, stderr } = await exec(process.execPath, [script, broker.base, transport], { env, timeout: 30_000 });
    assert.equal(stdout, `over ${transport}\n`, stderr);
  }
});

test('the own origin is https: a page of http on the same host is foreign', async () => {
  const send = (origin) => get(`${broker.base}/topics/${freshTopic()}`, { ca, body: 'x', headers: { origin } });
  assert.equal((await send(broker.base)).status, 201);
  const foreign = await send(broker.base.replace('https', 'http'));
  assert.deepEqual([foreign.status, JSON.parse(foreign.text).code], [403, 'foreign-origin']);
});

test('the banner shows commands that work', async () => {
  const command = /publish\s+curl (.*)/.exec(broker.stdout)[1];
  const { stdout } = await exec('sh', ['-c', `curl -sS ${command}`]);
  assert.match(stdout, /"topic":"hello"/);
});

test('what is no handshake costs its client only', async (t) => {
  const before = await broker.descriptors();
  const clients = [];
  for (const bytes of ['GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', '\x16\x03\x01\xff\xff', '\0'.repeat(100), '\x16\x03\x01\x02\x00\x01']) {
    for (const _ of numbers(25)) {
      const raw = await Raw.open(t, broker.port);
      await raw.send(Buffer.from(bytes, 'latin1'));
      clients.push(raw);
    }
  }
  // The others are served meanwhile.
  await publish(freshTopic(), 'x');
  const began = performance.now();
  await Promise.all(clients.map((raw) => raw.end()));
  assert.ok(performance.now() - began < 15_000);
  clients.forEach((raw) => raw.close());
  await eventually(async () => (await broker.descriptors()) <= before + 2, 'descriptors are left');
});

test('a drain tells streams to come back, and waits for no handshake', async (t) => {
  const own = await Broker.start({ args: ['--tls-dev'] });
  t.after(() => own.stop());
  const options = { ca: await readFile(path.join(own.data, 'tls-dev', 'cert.pem')), agent: false };
  const half = await Raw.open(t, own.port);
  await half.send(Buffer.from('\x16\x03\x01\x02\x00\x01', 'latin1'));
  const stream = await open(`${own.base}/topics/a?format=sse`, options);
  const socket = await LineSocket.open(t, own.base, '/topics/a', options);
  await until(stream, /caught_up/);
  const ended = own.end('SIGTERM');
  await until(stream, /event: tailwire\.bye\ndata: .*"reason":"drain"/);
  assert.equal((await socket.closed).code, 1012);
  const { code, ms } = await ended;
  assert.equal(code, 0);
  assert.ok(ms < 4000, `it took ${ms} ms`);
  // The certificate is the same after a restart.
  await own.spawn();
  assert.equal((await get(`${own.base}/healthz`, options)).status, 200);
});

describe('certificates', () => {
  let folder;
  before(async () => (folder = await emptyFolder()));
  after(() => rm(folder, { recursive: true, force: true }));

  const start = async (t, toml) => {
    const config = path.join(folder, `${freshTopic('config').replace('/', '-')}.toml`);
    await writeFile(config, toml);
    const own = await Broker.start({ args: ['--config', config] });
    t.after(() => own.stop());
    return own;
  };

  test('are chosen by name; the first is for all others', async (t) => {
    const a = await certificate(folder, 'a', ['a.example', '*.a.example']);
    const b = await certificate(folder, 'b', ['b.example']);
    const own = await start(t, `[tls]\ncert = '${a.cert}'\nkey = '${a.key}'\n[[tls.certificate]]\ncert = '${b.cert}'\nkey = '${b.key}'\n`);
    for (const [name, expect] of [['a.example', 'a'], ['x.a.example', 'a'], ['b.example', 'b'], ['B.example', 'b'], ['c.example', 'a'], [undefined, 'a']]) {
      assert.equal(await shown(own.port, name), expect, name);
    }
  });

  for (const how of ['by themselves', 'at SIGHUP']) {
    test(`that are replaced are shown to new connections, ${how}, and open ones go on`, async (t) => {
      const place = await certificate(folder, 'old');
      const own = await start(t, `[tls]\ncert = '${place.cert}'\nkey = '${place.key}'\n`);
      const options = { ca: await readFile(place.cert), agent: false, servername: 'localhost' };
      const stream = await open(`${own.base}/topics/a?format=sse`, options);
      t.after(() => stream.destroy());
      await until(stream, /caught_up/);
      assert.equal(await shown(own.port, 'localhost'), 'old');
      // A pair that doesn't fit changes nothing.
      const next = await certificate(folder, 'new');
      const key = await readFile(place.key);
      await writeFile(place.key, await readFile(next.key));
      own.child.kill('SIGHUP');
      await eventually(() => /is not the key of the certificate/.test(own.stderr), 'the broker says nothing');
      assert.equal(await shown(own.port, 'localhost'), 'old');
      await writeFile(place.key, key);
      const said = own.stderr.length;
      await replace(place, next);
      if (how === 'at SIGHUP') own.child.kill('SIGHUP');
      await eventually(async () => (await shown(own.port, 'localhost')) === 'new', 'the new one is not shown');
      assert.doesNotMatch(own.stderr.slice(said), /panicked/);
      await publish('a', 'still here', { ca: await readFile(place.cert), servername: 'localhost', agent: false }, own.base);
      await until(stream, /data: still here\n/);
    });
  }

  test('of clients are asked for where they are verified', async (t) => {
    const server = await certificate(folder, 'server');
    const authority = await certificate(folder, 'authority');
    const client = await signedCertificate(folder, 'client', authority, 'clientAuth');
    const tlsOf = (more) => `[tls]\ncert = '${server.cert}'\nkey = '${server.key}'\nclient_ca = '${authority.cert}'\n${more}`;
    const options = { ca: await readFile(server.cert), agent: false, servername: 'localhost' };
    const shows = { ...options, cert: await readFile(client.cert), key: await readFile(client.key) };
    const required = await start(t, tlsOf('client_required = true\n'));
    assert.equal((await get(`${required.base}/healthz`, shows)).status, 200);
    await assert.rejects(get(`${required.base}/healthz`, options));
    const stranger = await signedCertificate(folder, 'stranger', await certificate(folder, 'elsewhere'), 'clientAuth');
    const foreign = { ...options, cert: await readFile(stranger.cert), key: await readFile(stranger.key) };
    await assert.rejects(get(`${required.base}/healthz`, foreign));
    const optional = await start(t, tlsOf(''));
    for (const some of [options, shows]) assert.equal((await get(`${optional.base}/healthz`, some)).status, 200);
  });

  test('that are missing, wrong or of another key keep the broker from starting, with a reason', async () => {
    const [one, other] = [await certificate(folder, 'one'), await certificate(folder, 'other')];
    const empty = path.join(folder, 'empty.pem');
    await writeFile(empty, '');
    for (const [files, why] of [
      [[path.join(folder, 'none.pem'), one.key], /none\.pem: .*no such file/i],
      [[empty, one.key], /empty\.pem: has no certificate/],
      [[one.cert, empty], /empty\.pem: has no private key/],
      [[one.cert, other.key], /other-key\.pem: is not the key of the certificate in .*one\.pem/],
    ]) {
      const data = path.join(folder, 'never');
      const args = ['serve', '--listen', '127.0.0.1:0', '--data', data, '--tls-cert', files[0], '--tls-key', files[1]];
      const { code, stderr } = await run(args);
      assert.equal(code, 1, stderr);
      assert.match(stderr, why);
    }
  });

  test('are looked at by `config check`, and `config show` gives them back', async () => {
    const [one, other] = [await certificate(folder, 'checked'), await certificate(folder, 'unlike')];
    const file = path.join(folder, 'checked.toml');
    await writeFile(file, `[tls]\ncert = '${one.cert}'\nkey = '${one.key}'\n`);
    const shown = await run(['config', 'show', '--config', file]);
    await writeFile(file, shown.stdout);
    assert.equal((await run(['config', 'check', '--config', file])).code, 0, shown.stdout);
    await writeFile(file, shown.stdout.replace(one.key, other.key));
    const { code, stderr } = await run(['config', 'check', '--config', file]);
    assert.equal(code, 2);
    assert.match(stderr, /unlike-key\.pem: is not the key of the certificate/);
  });
});

test('clear text is refused with what is spoken there', async (t) => {
  for (const text of ['GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', 'POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']) {
    const raw = await Raw.open(t, broker.port);
    await raw.send(text);
    const said = await raw.end();
    assert.match(said, /^HTTP\/1\.1 400 .*\r\n/);
    assert.match(said, /"code":"tls-required".*begins with https:\/\//);
  }
});

test('a client certificate is a name that rules are for', async (t) => {
  const folder = await emptyFolder();
  const authority = await certificate(folder, 'authority');
  const [alice, bob] = [await signedCertificate(folder, 'alice', authority, 'clientAuth'), await signedCertificate(folder, 'bob', authority, 'clientAuth')];
  const server = await certificate(folder, 'localhost');
  const config = path.join(folder, 'tailwire.toml');
  await writeFile(
    config,
    `[tls]\ncert = "${server.cert}"\nkey = "${server.key}"\nclient_ca = "${authority.cert}"\n` +
      '[access]\n[[access.rule]]\nwho = "certificate"\npublish = ["devices/{sub}"]\nsubscribe = ["devices/{sub}"]\n',
  );
  const own = await Broker.start({ args: ['--config', config] });
  t.after(() => own.stop());
  const trust = await readFile(server.cert);
  const as = async (who, name) => {
    const shown = who && { cert: await readFile(who.cert), key: await readFile(who.key) };
    const options = { ca: trust, servername: 'localhost', agent: false, ...shown };
    return (await get(`https://127.0.0.1:${own.port}/topics/devices/${name}`, { ...options, body: 'x', headers: { 'content-type': 'text/plain' } })).status;
  };
  assert.deepEqual([await as(alice, 'alice'), await as(bob, 'bob')], [201, 201]);
  assert.deepEqual([await as(alice, 'bob'), await as(undefined, 'alice')], [403, 401]);
  const socket = await LineSocket.open(t, `https://127.0.0.1:${own.port}`, '/topics/devices/alice', {
    ca: trust,
    servername: 'localhost',
    cert: await readFile(alice.cert),
    key: await readFile(alice.key),
  });
  assert.equal((await socket.ask({ kind: 'publish', topic: 'devices/alice', data: 'x' })).kind, 'ok');
  assert.equal((await socket.ask({ kind: 'publish', topic: 'devices/bob', data: 'x' })).code, 'forbidden');
});
