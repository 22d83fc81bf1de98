// The broker as a process: its log, which must never hold up a client, and the signals that it gets.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Broker, deadline, emptyFolder } from './support/broker.mjs';
import { publish, request } from './support/http.mjs';
import { exchange } from './support/raw.mjs';

/** Runs `attempt` until it gives something, and then gives that. */
async function eventually(why, attempt) {
  const late = deadline(why);
  let over = false;
  late.catch(() => (over = true));
  try {
    for (;;) {
      const got = await attempt();
      if (got) return got;
      if (over) await late;
      await sleep(20);
    }
  } finally {
    late.cancel();
  }
}

/** A pipe that is full, and that nobody reads until `read` is called. */
async function fullPipe(t) {
  const folder = await emptyFolder();
  t.after(() => rm(folder, { recursive: true, force: true }));
  const name = path.join(folder, 'stderr');
  execFileSync('mkfifo', [name]);
  // For reading and writing, so that opening waits for nobody. The broker gets a descriptor of its own, which blocks.
  const ours = openSync(name, constants.O_RDWR | constants.O_NONBLOCK);
  const brokers = openSync(name, constants.O_WRONLY);
  t.after(() => [ours, brokers].forEach((fd) => closeSync(fd)));
  // A line at a time, and at last a byte: a write that has no room for all of it may take nothing.
  for (const junk of [Buffer.alloc(1024, 'x'), Buffer.from('x')]) {
    try {
      for (;;) writeSync(ours, junk);
    } catch (error) {
      assert.equal(error.code, 'EAGAIN');
    }
  }
  const buffer = Buffer.alloc(64 << 10);
  const read = () => {
    try {
      return buffer.toString('utf8', 0, readSync(ours, buffer));
    } catch (error) {
      assert.equal(error.code, 'EAGAIN');
      return '';
    }
  };
  return { fd: brokers, read };
}

/** Has the broker log a line at `debug`, so often: each connection says what is no HTTP. */
async function causeLines(t, broker, count) {
  for (let n = 0; n < count; n += 1) await exchange(t, broker.port, '\x00garbage\r\n\r\n');
}

const metric = async (broker, name) => {
  const text = await broker.metrics();
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1]);
};

describe('a stderr that nobody reads', () => {
  test('holds up no publish, no health check and no end', async (t) => {
    const pipe = await fullPipe(t);
    const broker = await Broker.start({ args: ['--log-level', 'debug'], stderr: pipe.fd });
    t.after(() => broker.stop());
    await causeLines(t, broker, 30);
    await publish(broker.base, 'a', 'still here');
    assert.equal((await request(`${broker.base}/healthz`)).status, 200);
    await causeLines(t, broker, 30);
    assert.ok((await metric(broker, 'tailwire_diagnostics_suppressed_total')) >= 20);
    const { code, signal, ms } = await broker.end('SIGTERM');
    assert.deepEqual([code, signal], [0, null]);
    // The drain of no connections, and a second for stderr.
    assert.ok(ms < 5000, `${ms} ms`);
  });

  test('gets its lines once it is read again, with a count of those beyond the limit of their kind', async (t) => {
    const pipe = await fullPipe(t);
    const broker = await Broker.start({ args: ['--log-level', 'debug'], stderr: pipe.fd });
    t.after(() => broker.stop());
    await causeLines(t, broker, 60);
    const suppressed = await metric(broker, 'tailwire_diagnostics_suppressed_total');
    let log = '';
    const reported = () => [...log.matchAll(/left out.*lines=(\d+)/g)].reduce((sum, [, lines]) => sum + Number(lines), 0);
    await eventually('the lines left out are not all reported', () => {
      log += pipe.read();
      return reported() === suppressed;
    });
    const told = log.match(/a request is refused/g).length;
    assert.equal(told + suppressed, 60, log.slice(-2000));
  });

  test('holds up no start that fails', async (t) => {
    const pipe = await fullPipe(t);
    const other = await Broker.start();
    t.after(() => other.stop());
    const serve = ['serve', '--listen', '127.0.0.1:0', '--data', other.data];
    await assert.rejects(Broker.start({ serve, stderr: pipe.fd }), /did not start/);
  });
});

describe('the log', () => {
  test('has an object a line with --log-format json', async () => {
    const broker = await Broker.start({ args: ['--log-format', 'json', '--log-level', 'debug'] });
    await broker.stop();
    const lines = broker.stderr.trim().split('\n').map((line) => JSON.parse(line));
    const stopped = lines.find((line) => line.message === 'stopped');
    assert.equal(stopped.level, 'INFO');
    assert.equal(stopped.target, 'tailwire::serve');
    assert.ok(Date.parse(stopped.timestamp) > Date.now() - 60_000);
  });

  test('tells at info of options set and topics deleted, at debug of requests, refusals and streams', async (t) => {
    const broker = await Broker.start({ args: ['--log-format', 'json', '--log-level', 'debug'] });
    t.after(() => broker.stop());
    const options = { method: 'PUT', body: '{"max_age":60}', headers: { 'content-type': 'application/json' } };
    assert.equal((await request(`${broker.base}/options/a`, options)).status, 200);
    assert.equal((await request(`${broker.base}/topics/a`, { method: 'DELETE' })).status, 204);
    assert.equal((await request(`${broker.base}/topics/a?after=nonsense&secret=1`)).status, 400);
    const stream = await fetch(`${broker.base}/topics/a?format=ndjson`);
    await stream.body.cancel();
    const lines = () => broker.stderr.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    const told = (level, fields) =>
      eventually(`no line at ${level} with ${JSON.stringify(fields)} in:\n${broker.stderr}`, () =>
        lines().some((line) => line.level === level && Object.entries(fields).every(([name, value]) => line[name] === value)));
    await told('INFO', { message: 'options were set', term: 'a', by: 'Anonymous' });
    await told('INFO', { message: "a topic's messages were deleted", topic: 'a', by: 'Anonymous' });
    await told('DEBUG', { message: 'a request', method: 'DELETE', path: '/topics/a' });
    await told('DEBUG', { message: 'a request is refused', code: 'cursor-invalid' });
    await told('DEBUG', { message: 'a stream or poll began', transport: 'ndjson' });
    await told('DEBUG', { message: 'a stream or poll ended', transport: 'ndjson' });
    assert.doesNotMatch(broker.stderr, /secret/);
  });

  test('has no warnings of other crates, whatever clients do', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    await rapidResets(t, broker.port);
    await publish(broker.base, 'a', 'x');
    await broker.stop();
    assert.doesNotMatch(broker.stderr, /h2::/);
  });
});

/** HTTP/2 streams that are reset as soon as they are opened, until the broker ends the connection. */
async function rapidResets(t, port) {
  const frame = (type, flags, stream, payload) => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head.writeUInt8(type, 3);
    head.writeUInt8(flags, 4);
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  // GET http://127.0.0.1/healthz (RFC 7541: indexed, indexed, path and authority as literals).
  const literal = (index, text) => Buffer.concat([Buffer.from([index, text.length]), Buffer.from(text)]);
  const headers = Buffer.concat([Buffer.from([0x82, 0x86]), literal(0x04, '/healthz'), literal(0x01, '127.0.0.1')]);
  const all = [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0))];
  for (let stream = 1; stream < 20_001; stream += 2) {
    all.push(frame(1, 5, stream, headers), frame(3, 0, stream, Buffer.from([0, 0, 0, 8])));
  }
  await exchange(t, port, Buffer.concat(all));
}

describe('signals', () => {
  test('SIGHUP, SIGUSR1 and SIGUSR2 end nothing, and are told in the log', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    for (const signal of ['SIGHUP', 'SIGUSR1', 'SIGUSR2']) {
      process.kill(broker.pid, signal);
      await eventually(`${signal} is not told`, () => broker.stderr.includes(signal));
    }
    assert.match(broker.stderr, /nothing to reload/);
    await publish(broker.base, 'a', 'x');
  });
});
