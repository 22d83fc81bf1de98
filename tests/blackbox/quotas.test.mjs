// Quotas by pattern: what all topics of a pattern have together, by every transport, and right after whatever takes messages.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { configured, eventually } from './support/broker.mjs';
import { assertProblem, postLines, remove, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';

const settings = (quota) => `listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n[[limits.quota]]\npattern = "tenants/acme/**"\n${quota}`;
/** What a message takes: its body, its topic, and 64 bytes. */
const cost = (topic, body) => 64 + topic.length + body.length;
const BODY = 'x'.repeat(1000);

const post = (broker, topic, body = BODY, headers = {}) =>
  request(`${broker.base}/topics/${topic}`, { method: 'POST', body, headers: { 'content-type': 'text/plain', ...headers } });

describe('bytes', () => {
  const topic = 'tenants/acme/a';
  const each = cost(topic, BODY);
  const ten = settings(`bytes = ${10 * each}`);
  const fill = async (broker, count = 10) => {
    for (let n = 0; n < count; n += 1) assert.equal((await post(broker, topic)).status, 201, `${n}`);
  };

  test('are refused beyond the quota, on every transport, and nobody else is', async (t) => {
    const broker = await configured(t, ten);
    await fill(broker, 9);
    const line = { topic: 'tenants/acme/b', data: BODY };
    // A batch is taken whole or not at all.
    assertProblem(await postLines(`${broker.base}/stream`, [line, line]), 507, 'quota-exceeded');
    assert.equal((await request(`${broker.base}/topics/tenants/acme/b`)).status, 202);
    await fill(broker, 1);
    const refused = await post(broker, topic);
    const { detail, retry_after_ms } = assertProblem(refused, 507, 'quota-exceeded');
    assert.equal(detail, `the topics of \`tenants/acme/**\` may have at most ${10 * each} bytes`);
    assert.ok(retry_after_ms > 0 && Number(refused.headers.get('retry-after')) > 0);
    const socket = await LineSocket.open(t, broker.base);
    const error = await socket.ask({ kind: 'publish', topic: 'tenants/acme/c', data: '' });
    assert.deepEqual([error.kind, error.status, error.code], ['error', 507, 'quota-exceeded']);
    assert.equal((await socket.ask({ kind: 'publish', messages: [line, { topic: 'other', data: 1 }] })).code, 'quota-exceeded');
    for (const other of ['tenants/other/a', 'tenants/acme', 'other']) assert.equal((await post(broker, other)).status, 201, other);
    assert.match(await broker.metrics(), new RegExp(`tailwire_quota_used\\{pattern="tenants/acme/\\*\\*",kind="bytes"\\} ${10 * each}\n`));
    assert.match(await broker.metrics(), /tailwire_limited_total\{limit="quota",kind="bytes"\} 4/);
    // Many at once take no more than is left.
    await remove(broker.base, topic);
    const statuses = (await Promise.all(Array.from({ length: 50 }, () => post(broker, topic)))).map(({ status }) => status);
    assert.equal(statuses.filter((status) => status === 201).length, 10);
    assert.ok(statuses.every((status) => status === 201 || status === 507));
  });

  test('an idempotency key that is known gets its receipt, also where the quota is full meanwhile', async (t) => {
    const broker = await configured(t, ten);
    const keyed = () => post(broker, topic, BODY, { 'idempotency-key': '"one"' });
    const first = await keyed();
    await fill(broker, 9);
    assertProblem(await post(broker, topic, BODY, { 'idempotency-key': '"two"' }), 507, 'quota-exceeded');
    const again = await keyed();
    assert.deepEqual([again.status, again.headers.get('idempotency-replayed'), again.text], [201, 'true', first.text]);
    assertProblem(await post(broker, topic, `${BODY}!`, { 'idempotency-key': '"one"' }), 422, 'idempotency-key-reused');
  });

  test('are right after a restart, a kill, a removal, a delete and retention', async (t) => {
    const broker = await configured(t, ten);
    await fill(broker);
    for (const again of ['restart', 'crash']) {
      await broker[again]();
      assertProblem(await post(broker, topic), 507, 'quota-exceeded');
    }
    const page = await request(`${broker.base}/topics/${topic}?limit=1`);
    const answer = await request(`${broker.base}/messages/${page.json.messages[0].cursor}`, { method: 'DELETE' });
    assert.equal(answer.status, 204, answer.text);
    await fill(broker, 1);
    assertProblem(await post(broker, topic), 507, 'quota-exceeded');
    await remove(broker.base, topic);
    await fill(broker);
    assertProblem(await post(broker, topic), 507, 'quota-exceeded');
    const options = await request(`${broker.base}/options/${topic}`, {
      method: 'PUT',
      body: JSON.stringify({ max_messages: 4 }),
      headers: { 'content-type': 'application/json' },
    });
    assert.equal(options.status, 200, options.text);
    await eventually(async () => (await post(broker, topic)).status === 201, 'retention makes no room');
    await broker.restart();
    await eventually(async () => (await post(broker, topic)).status === 201, 'nor after a restart');
  });

  test('of compacted topics count as long as they are kept', async (t) => {
    const broker = await configured(t, `${settings(`bytes = ${4 * each}`)}\n[[options]]\ntopic = "tenants/acme/**"\ncompact = true`);
    for (let n = 0; n < 20; n += 1) {
      await eventually(async () => (await post(broker, topic, BODY, { 'tailwire-key': 'one' })).status === 201, `${n}`);
    }
    const keys = ['two', 'three', 'four', 'five'];
    const kept = [];
    for (const key of keys) kept.push((await post(broker, topic, BODY, { 'tailwire-key': key })).status);
    assert.ok(kept.includes(507), `${kept}`);
    // To delete a key is never refused, and makes room.
    const deleted = await request(`${broker.base}/topics/${topic}?key=one`, { method: 'DELETE' });
    assert.equal(deleted.status, 204, deleted.text);
  });
});

test('topics are counted once, also where they are empty again, until they are forgotten', async (t) => {
  const broker = await configured(t, `forget_topics_after = "5s"\n${settings('topics = 3')}`);
  const topic = (name) => `tenants/acme/${name}`;
  const same = await Promise.all(Array.from({ length: 30 }, () => post(broker, topic('a'))));
  assert.ok(same.every(({ status }) => status === 201));
  const lines = ['b', 'c', 'd'].map((name) => ({ topic: topic(name), data: 1 }));
  assertProblem(await postLines(`${broker.base}/stream`, lines), 507, 'quota-exceeded');
  assert.equal((await postLines(`${broker.base}/stream`, lines.slice(1))).status, 201);
  const { detail } = assertProblem(await post(broker, topic('e')), 507, 'quota-exceeded');
  assert.equal(detail, 'the topics of `tenants/acme/**` may have at most 3 topics');
  for (const restart of [false, true]) {
    if (restart) await broker.restart();
    await remove(broker.base, topic('a'));
    assertProblem(await post(broker, topic('e')), 507, 'quota-exceeded');
    assert.equal((await post(broker, topic('a'))).status, 201);
  }
  await remove(broker.base, topic('a'));
  await eventually(async () => (await post(broker, topic('e'))).status === 201, 'a topic that is forgotten counts on', 30_000);
});
