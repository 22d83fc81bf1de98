// `tailwire bench` against a running broker: every command on every transport, and what it says of a run.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker, run } from './support/broker.mjs';
import { publish } from './support/http.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

/** A run has several phases, each of which waits for the disk: on a busy machine it takes its time. */
const PATIENCE_MS = 120_000;

const bench = (...args) => run(['bench', ...args, '--url', broker.base], { patience: PATIENCE_MS });

/** The report of a run that must be sound. */
async function report(...args) {
  const { code, stdout, stderr } = await bench(...args, '--json');
  assert.equal(code, 0, `${args.join(' ')}\n${stdout}${stderr}`);
  assert.equal(stderr, '', 'progress is for terminals');
  return JSON.parse(stdout);
}

const faults = ({ lost, doubled, reordered, other_orders, foreign, gaps }) =>
  ({ lost, doubled, reordered, other_orders, foreign, gaps });
const NONE = { lost: 0, doubled: 0, reordered: 0, other_orders: 0, foreign: 0, gaps: 0 };

describe('what is delivered is counted', () => {
  for (const transport of ['ws', 'sse', 'ndjson', 'longpoll']) {
    test(`fanout over ${transport}: each message, once, to each subscriber`, async () => {
      const got = await report('fanout', '--transport', transport, '--subscribers', '20', '--rate', '50', '--seconds', '1');
      assert.ok(got.messages > 0);
      assert.equal(got.deliveries, got.messages * 20);
      assert.deepEqual(faults(got), NONE);
    });
  }

  test('fanout over topics: each subscriber gets those of its own', async () => {
    const got = await report('fanout', '--topics', '5', '--subscribers', '10', '--flat-out', '--seconds', '1');
    assert.ok(got.messages > 0);
    assert.equal(got.deliveries, got.messages * 2);
    assert.deepEqual(faults(got), NONE);
  });

  test('fanout by a pattern: each subscriber gets those of all topics', async () => {
    const got = await report('fanout', '--topics', '5', '--pattern', '--subscribers', '4', '--rate', '100', '--seconds', '1');
    assert.ok(got.messages > 0);
    assert.equal(got.deliveries, got.messages * 4);
    assert.deepEqual(faults(got), NONE);
  });

  for (const wire of ['http', 'ws']) {
    test(`latency, published over ${wire}: to the receipt and to the subscriber`, async () => {
      const got = await report('latency', '--publish', wire, '--rate', '50', '--subscribers', '3', '--seconds', '1');
      assert.equal(got.deliveries, got.messages * 3);
      for (const times of [got.receipt_us, got.delivery_us]) {
        assert.ok(times.p50 > 0 && times.p50 <= times['p99.9'] && times['p99.9'] <= times.max, JSON.stringify(times));
      }
    });
  }
});

/** Resolves once so much was published to a topic that a run with 16 under way has seen receipts. */
async function published(base, topic) {
  for (let after = 'earliest', seen = 0; seen < 50; ) {
    const page = await (await fetch(`${base}/topics/${topic}?wait=20&after=${after}`)).json();
    seen += page.messages.length;
    after = page.cursor;
  }
}

describe('what goes wrong is told', () => {
  for (const [signal, ...args] of [
    ['SIGKILL', 'fanout', '--subscribers', '5', '--rate', '200'],
    ['SIGKILL', 'fanout', '--subscribers', '5', '--flat-out'],
    ['SIGTERM', 'latency', '--subscribers', '5', '--publish', 'ws'],
    ['SIGTERM', 'publish', '--connections', '8'],
  ]) {
    test(`${args.join(' ')}: a server that goes away (${signal}) ends the run, and the report says so`, async () => {
      const mortal = await Broker.start();
      try {
        const running = run(['bench', ...args, '--topic', 'mortal', '--seconds', '60', '--url', mortal.base, '--json']);
        await published(mortal.base, 'mortal');
        mortal.child.kill(signal);
        const { code, stdout, stderr } = await running;
        assert.equal(code, 1, stderr);
        const got = JSON.parse(stdout);
        assert.match(got.server_gone, /^the server went away/);
        assert.ok(got.messages > 0);
      } finally {
        await mortal.stop();
      }
    });
  }

  test('a publish that is refused is no loss, but the run is not sound', async () => {
    for (const args of [['fanout', '--rate', '50'], ['latency'], ['publish', '--rate', '50']]) {
      const { code, stdout, stderr } = await bench(...args, '--topic', '$nobodys', '--seconds', '1', '--json');
      assert.equal(code, 1, stderr);
      const got = JSON.parse(stdout);
      assert.ok(got.messages_refused > 0, stdout);
      assert.deepEqual([got.messages, got.messages_unknown, got.lost ?? 0], [0, 0, 0]);
    }
  });

  test('two runs on one topic know their own messages', async () => {
    const args = ['fanout', '--topic', 'shared', '--subscribers', '3', '--rate', '100', '--seconds', '2'];
    const both = await Promise.all([report(...args), report(...args)]);
    for (const got of both) {
      assert.equal(got.deliveries, got.messages * 3);
      assert.deepEqual({ ...faults(got), foreign: 0 }, NONE);
    }
    assert.ok(both[0].foreign + both[1].foreign > 0, 'they were there at the same time');
  });

  test('a rate that is not reached is not told as if it were', async () => {
    const got = await report('publish', '--rate', '1000000', '--seconds', '1');
    assert.equal(got.rate_per_s, 1_000_000);
    assert.ok(got.published_per_s < 1_000_000 && got.published_per_s > 0, JSON.stringify(got));
    assert.match(got.fell_behind, /were not sent$/);
  });
});

describe('what is stored is read', () => {
  for (const transport of ['ws', 'sse', 'ndjson', 'page']) {
    test(`replay over ${transport}: a topic is filled once, and read as often as is asked`, async () => {
      const args = ['replay', '--transport', transport, '--messages', '3000', '--topic', `stored/${transport}`];
      const first = await report(...args);
      assert.equal(first.reads, 3000);
      assert.ok(first.stored_per_s > 0);
      const second = await report(...args, '--clients', '3');
      assert.equal(second.reads, 9000);
      assert.equal(second.stored_per_s, undefined, 'nothing was stored again');
      assert.deepEqual(faults(second), NONE);
    });
  }

  test('a topic with messages of somebody else is not taken for one of a run', async () => {
    await publish(broker.base, 'stored/other', 'hi');
    const many = await bench('replay', '--messages', '10', '--topic', 'stored/other');
    assert.equal(many.code, 1);
    assert.match(many.stderr, /stored\/other is not empty \(messages: 1\)/);
    const one = await bench('replay', '--messages', '1', '--topic', 'stored/other', '--json');
    assert.equal(one.code, 1, 'it found what it did not write');
    assert.equal(JSON.parse(one.stdout).lost, 1);
  });
});

describe('what a server uses is measured by its process', () => {
  test('publish, over many topics', async () => {
    const got = await report('publish', '--transport', 'ws', '--in-flight', '16', '--topics', '7', '--seconds', '1', '--pid', broker.pid);
    assert.ok(got.messages > 0 && got.server_cpu_us_per_message > 0);
    assert.deepEqual(got.errors, {});
  });

  test('idle: opening, and memory', async () => {
    const got = await report('idle', '--connections', '50', '--seconds', '1', '--pid', broker.pid);
    assert.ok(got.server_cpu_us_per_connection > 0 && got.server_memory_held_mb > 0);
    assert.deepEqual(got.ended, {});
  });

  for (const transport of ['ws', 'sse', 'ndjson', 'longpoll']) {
    test(`idle over ${transport}: memory also after messages, which each connection had`, async () => {
      const got = await report('idle', '--transport', transport, '--connections', '50', '--messages', '20', '--seconds', '1', '--pid', broker.pid);
      assert.equal(got.deliveries, 20 * 50);
      assert.deepEqual(faults(got), NONE);
      assert.ok(got.server_memory_after_mb > 0 && got.after_bytes_per_connection >= 0);
      assert.deepEqual(got.ended, {});
    });
  }

  test('topics: what patterns add to a publish that none of them matches', async () => {
    const args = ['topics', '--topics', '500', '--subscribers', '0', '--seconds', '1', '--pid', broker.pid];
    const got = await report(...args, '--patterns', '300');
    const cpu = got.patterns_server_cpu_us_per_message;
    assert.ok(cpu.without > 0 && cpu.with > 0 && Number.isFinite(cpu.added), JSON.stringify(cpu));
    for (const patterns of ['250', '600']) {
      const refused = await bench(...args, '--patterns', patterns);
      assert.match(refused.stderr, /a multiple of 100, and no more than --topics/);
    }
  });

  test('topics: creating them, publishing before and after, and listening to all', async () => {
    const got = await report('topics', '--topics', '2000', '--subscribers', '2', '--rate', '50', '--seconds', '1', '--pid', broker.pid);
    assert.ok(got.publish_before.messages_per_s > 0 && got.publish_after.server_cpu_us_per_message > 0);
    assert.ok(got.deliveries > 0);
    assert.deepEqual(faults(got), NONE);
    const { topics } = await (await fetch(`${broker.base}/topics?prefix=bench/&limit=1000`)).json();
    assert.ok(topics.length === 1000, 'there are many');
  });

  test('no such process, and no such server', async () => {
    const unknown = await bench('publish', '--pid', '4294967295');
    assert.match(unknown.stderr, /no such process/);
    const gone = await run(['bench', 'latency', '--url', 'http://127.0.0.1:1']);
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /http:\/\/127\.0\.0\.1:1: connecting: .*`tailwire serve`/);
    const many = await run(['bench', 'fanout', '--subscribers', '1000', '--url', 'HTTP://127.0.0.1:1']);
    assert.match(many.stderr, /0 of 1000 are subscribed/);
  });
});
