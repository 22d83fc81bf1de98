// Clocks that are wrong at a start. Whatever they say, the log opens, keeps its cursors, and orders new ones after them.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Broker, run } from './support/broker.mjs';
import { clockFrom } from './support/clock.mjs';
import { freshTopic, publish, readAll, request } from './support/http.mjs';

const cursorsOf = (messages) => messages.map(({ cursor }) => cursor);

/** Starts a broker with a clock of its own; a right one, if none is given. */
async function start(t, date) {
  const broker = await Broker.start({ env: date ? clockFrom(date) : {} });
  t.after(() => broker.stop());
  return broker;
}

/** Starts it again with another clock. */
async function again(broker, date, signal = 'SIGTERM') {
  await broker.end(signal);
  broker.env = date ? clockFrom(date) : {};
  await broker.spawn();
}

/** All receipts' messages are there, in their order, under cursors that are good, and nothing is damaged. */
async function assertWhole(broker, topic, receipts) {
  const cursors = cursorsOf(receipts);
  assert.deepEqual(cursors, [...new Set(cursors)].sort(), 'cursors are not in the order of the log');
  assert.deepEqual(cursorsOf(await readAll(broker.base, `/topics/${topic}`)), cursors);
  for (const [index, cursor] of cursors.entries()) {
    const page = await request(`${broker.base}/topics/${topic}?limit=1000&after=${cursor}`);
    assert.ok(page.status === 200 || page.status === 202, `${cursor}: ${page.text}`);
    assert.deepEqual(cursorsOf(page.json.messages), cursors.slice(index + 1), cursor);
  }
  await broker.end('SIGTERM');
  const check = await run(['log', 'check', '--data', broker.data]);
  assert.equal(check.code, 0, `${check.stdout}${check.stderr}`);
  await broker.spawn();
}

for (const [name, wrong] of [
  ['decades ahead', new Date(Date.UTC(2077, 0, 1))],
  ['centuries ahead', new Date(Date.UTC(2261, 0, 1))],
  ['decades behind', new Date(Date.UTC(1999, 0, 1))],
]) {
  test(`a log that began with a clock ${name} goes on with the right one`, async (t) => {
    const broker = await start(t, wrong);
    const topic = freshTopic();
    const receipts = [await publish(broker.base, topic, 'first'), await publish(broker.base, topic, 'second')];
    await again(broker);
    receipts.push(await publish(broker.base, topic, 'third'));
    await again(broker, undefined, 'SIGKILL');
    receipts.push(await publish(broker.base, topic, 'fourth'));
    await assertWhole(broker, topic, receipts);
  });

  test(`a log goes on with a clock ${name}, and with the right one again`, async (t) => {
    const broker = await start(t);
    const topic = freshTopic();
    const receipts = [await publish(broker.base, topic, 'first')];
    for (const clock of [wrong, undefined, wrong, wrong, undefined]) {
      await again(broker, clock);
      receipts.push(await publish(broker.base, topic, `${clock}`));
    }
    await assertWhole(broker, topic, receipts);
  });
}

test('forty openings, each with another clock', async (t) => {
  const years = Array.from({ length: 40 }, () => 1971 + Math.random() * 250);
  t.diagnostic(`years: ${years.map((year) => year.toFixed(3)).join(' ')}`);
  const date = (year) => new Date(Date.UTC(1970, 0, 1) + (year - 1970) * 365.25 * 86_400_000);
  const broker = await start(t, date(years[0]));
  const topic = freshTopic();
  const receipts = [await publish(broker.base, topic, '0')];
  for (const [index, year] of years.entries()) {
    if (index === 0) continue;
    await again(broker, date(year), index % 3 ? 'SIGTERM' : 'SIGKILL');
    receipts.push(await publish(broker.base, topic, `${index}`));
  }
  await again(broker);
  receipts.push(await publish(broker.base, topic, 'the right clock'));
  await assertWhole(broker, topic, receipts);
});
