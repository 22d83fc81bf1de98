// The wall clock is set while the broker runs, or between two runs: what lasts is as long as it should be, and what a
// message says of its time is what the clock says.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Broker, eventually } from './support/broker.mjs';
import { SettableClock } from './support/clock.mjs';
import { freshTopic, publish, readAll, request } from './support/http.mjs';

const bodies = (messages) => messages.map(({ data }) => data);
/** How far a message's time may be off what the clock shows when its receipt is there. */
const NEAR_MS = 5_000;

async function start(t, seconds = 0, options = {}) {
  const clock = new SettableClock(seconds);
  t.after(() => clock.remove());
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
  const broker = await Broker.start({ env: clock.env, args });
  t.after(() => broker.stop());
  return { broker, clock };
}

async function setOptions(broker, topic, options) {
  const answer = await request(`${broker.base}/options/${topic}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(options),
  });
  assert.ok(answer.status < 300, answer.text);
}

const post = (broker, topic, body, key) =>
  request(`${broker.base}/topics/${topic}`, { method: 'POST', body, headers: { 'content-type': 'text/plain', 'idempotency-key': `"${key}"` } });

const read = (broker, topic) => readAll(broker.base, `/topics/${topic}`);

const isNear = (receipt, clock) => Math.abs(Date.parse(receipt.time) - clock.now()) < NEAR_MS;

/** Waits until a topic has no messages; how long it took since, in ms. */
async function gone(broker, topic, since) {
  await eventually(async () => (await request(`${broker.base}/topics/${topic}?after=earliest`)).json.messages?.length === 0, 'it stays');
  return performance.now() - since;
}

for (const seconds of [660, -300, 86_400, -86_400, 40 * 365 * 86_400]) {
  const step = `${seconds > 0 ? '+' : ''}${seconds} s`;

  test(`a key is kept over a step of ${step}, and time is the clock's`, async (t) => {
    const { broker, clock } = await start(t);
    const topic = freshTopic();
    const first = await post(broker, topic, 'once', 'k');
    assert.equal(first.status, 201, first.text);
    clock.set(seconds);
    const retry = await post(broker, topic, 'once', 'k');
    assert.deepEqual([retry.status, retry.headers.get('idempotency-replayed'), retry.json.cursor], [201, 'true', first.json.cursor]);
    const next = await publish(broker.base, topic, 'next');
    assert.ok(isNear(next, clock), `${next.time} under a clock at ${new Date(clock.now()).toISOString()}`);
    const last = await post(broker, topic, 'once', 'k');
    assert.equal(last.headers.get('idempotency-replayed'), 'true');
    assert.deepEqual(bodies(await read(broker, topic)), ['once', 'next']);
  });

  test(`messages expire at their age over a step of ${step}, those before it and those after`, async (t) => {
    const { broker, clock } = await start(t);
    const [short, long] = [freshTopic(), freshTopic()];
    await setOptions(broker, short, { max_age: 3 });
    await setOptions(broker, long, { max_age: 100 });
    await publish(broker.base, long, 'before');
    await publish(broker.base, short, 'before');
    const since = performance.now();
    clock.set(seconds);
    const after = await publish(broker.base, short, 'after');
    assert.ok(isNear(after, clock), after.time);
    await publish(broker.base, long, 'after');
    assert.deepEqual(bodies(await read(broker, short)), ['before', 'after']);
    const ms = await gone(broker, short, since);
    assert.ok(ms > 2_000, `gone after ${ms} ms`);
    assert.deepEqual(bodies(await read(broker, long)), ['before', 'after']);
  });

  test(`messages expire, and keys are kept, over a restart with a clock that was off by ${step}`, async (t) => {
    const { broker, clock } = await start(t, seconds);
    const topic = freshTopic();
    await setOptions(broker, topic, { max_age: 3 });
    const kept = freshTopic();
    const receipt = await post(broker, kept, 'once', 'k');
    await publish(broker.base, topic, 'under the wrong clock');
    await broker.end('SIGTERM');
    clock.set(0);
    await broker.spawn();
    const since = performance.now();
    const after = await publish(broker.base, topic, 'under the right one');
    assert.ok(isNear(after, clock), after.time);
    // A clock that was behind makes what came under it look old.
    if (seconds > 0 || seconds > -600) {
      const retry = await post(broker, kept, 'once', 'k');
      assert.deepEqual([retry.headers.get('idempotency-replayed'), retry.json.cursor], ['true', receipt.json.cursor]);
    }
    const ms = await gone(broker, topic, since);
    assert.ok(ms > 1_500, `gone after ${ms} ms`);
    await publish(broker.base, topic, 'later');
    await gone(broker, topic, performance.now());
  });
}

test('a client that polls is told to come back soon, however the clock was set', async (t) => {
  const { broker, clock } = await start(t);
  const topic = freshTopic();
  for (const n of [1, 2, 3]) await publish(broker.base, topic, `${n}`);
  const advice = async () => (await request(`${broker.base}/topics/${topic}?after=latest`)).json.retry_after_ms;
  const before = await advice();
  for (const seconds of [660, -300]) {
    clock.set(seconds);
    // The broker looks at its clock twice a second.
    await eventually(async () => (await advice()) <= 2 * before + 2_000, `not ${before} again`);
  }
});
