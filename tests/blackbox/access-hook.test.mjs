// The decision hook: an application that knows its users by their session cookie, and is asked what they may.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { describe, test } from 'node:test';

import { eventually } from './support/broker.mjs';
import { assertProblem, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { as, guarded, SECTION, token } from './support/tokens.mjs';

const KEY = Buffer.from('a key of the hook, of 32 bytes...');
const SIGNED = `whsec_${KEY.toString('base64')}`;

/** An answer that goes on and on. */
const DRIPS = Symbol('drips');

/** An application: `answer` is what it says to a question, or a status. It keeps what it was asked. */
async function application(t, answer) {
  const own = { asked: [], answer, open: 0, most: 0 };
  own.server = createServer(async (incoming, response) => {
    own.most = Math.max(own.most, (own.open += 1));
    let body = '';
    for await (const chunk of incoming) body += chunk;
    own.asked.push({ target: incoming.url, headers: incoming.headers, body, question: JSON.parse(body) });
    const said = await own.answer(JSON.parse(body));
    own.open -= 1;
    if (said === DRIPS) {
      const drip = setInterval(() => response.write(' '), 20);
      response.once('close', () => clearInterval(drip));
    } else if (typeof said === 'number') response.writeHead(said, { location: '/elsewhere' }).end();
    else response.end(typeof said === 'string' ? said : JSON.stringify(said));
  });
  own.server.listen(0, '127.0.0.1');
  await once(own.server, 'listening');
  t.after(() => {
    own.server.closeAllConnections();
    own.server.close();
  });
  own.url = `http://127.0.0.1:${own.server.address().port}/tailwire`;
  return own;
}

async function hooked(t, app, more = '') {
  const section = `${SECTION}
[access.hook]
url = "${app.url}"
topics = ["rooms/**"]
actions = ["subscribe", "publish"]
headers = ["cookie"]
secret = "${SIGNED}"
${more}`;
  const broker = await guarded({ section });
  t.after(() => broker.stop());
  broker.as = (user, target, options = {}) =>
    request(broker.base + target, { ...options, headers: { cookie: `session=${user}`, origin: broker.base, ...options.headers } });
  return broker;
}

/** Users may what is theirs: the session is the name. */
const byName = ({ headers }) => {
  const name = /session=(\w+)/.exec(headers.cookie ?? '')?.[1];
  return name ? { subject: name, subscribe: [`rooms/${name}/**`, 'rooms/all'], publish: [`rooms/${name}/**`] } : {};
};

describe('a decision', () => {
  test('is asked for once, with what is wanted and a signature, and holds for a while', async (t) => {
    const app = await application(t, byName);
    const broker = await hooked(t, app);
    for (let n = 0; n < 3; n += 1) {
      assert.equal((await broker.as('ann', '/topics/rooms/ann/1', { method: 'POST', body: `${n}` })).status, 201);
    }
    assert.equal(app.asked.length, 1);
    const [{ headers, body, question }] = app.asked;
    assert.deepEqual(question, { asks: { publish: ['rooms/ann/1'] }, headers: { cookie: 'session=ann' }, principal: null });
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
    assert.equal(headers['webhook-signature'], `v1,${createHmac('sha256', KEY).update(signed).digest('base64')}`);
    assert.ok(Math.abs(Number(headers['webhook-timestamp']) - Date.now() / 1000) < 60);
    // Another topic, or another user, is another question.
    assertProblem(await broker.as('ann', '/topics/rooms/bob/1', { method: 'POST', body: 'x' }), 403, 'forbidden');
    assertProblem(await broker.as('bob', '/topics/rooms/ann/1', { method: 'POST', body: 'x' }), 403, 'forbidden');
    assert.equal(app.asked.length, 3);
    const page = await broker.as('ann', '/topics/rooms/ann/1');
    assert.deepEqual(page.json.messages.map(({ data }) => data), ['0', '1', '2']);
    assert.equal(page.headers.get('cache-control'), 'private, no-cache');
    assertProblem(await broker.as('bob', '/topics/rooms/ann/1'), 403, 'forbidden');
  });

  test('is not asked for where it is not the hook’s, or permitted without', async (t) => {
    const app = await application(t, byName);
    const broker = await hooked(t, app);
    assert.equal((await broker.as('ann', '/topics/public/x')).status, 202);
    assertProblem(await broker.as('ann', '/topics/users/bob/x'), 401, 'unauthorized');
    assert.equal((await broker.as('ann', '/healthz')).status, 200);
    assertProblem(await broker.as('ann', '/topics/rooms/ann/1', { method: 'DELETE' }), 401, 'unauthorized');
    assert.equal(app.asked.length, 0);
  });

  test('narrows a pattern, over every transport', async (t) => {
    const app = await application(t, byName);
    const broker = await hooked(t, app);
    await broker.as('ann', '/topics/rooms/ann/1', { method: 'POST', body: 'hers' });
    await broker.as('bob', '/topics/rooms/bob/1', { method: 'POST', body: 'his' });
    const page = await broker.as('ann', '/topics/rooms/**');
    assert.deepEqual(page.json.messages.map(({ data }) => data), ['hers']);
    assert.equal(page.headers.get('tailwire-narrowed'), 'topic=rooms/all&topic=rooms/ann/**');
    const options = { headers: { cookie: 'session=ann', origin: broker.base } };
    const socket = await LineSocket.open(t, broker.base, '/stream', options);
    assert.deepEqual(app.asked.at(-1).question.asks, { publish: ['rooms/**'], subscribe: ['rooms/**'] });
    const ok = await socket.ask({ kind: 'subscribe', topic: 'rooms/**', after: 'earliest' });
    assert.deepEqual(ok.narrowed, ['rooms/all', 'rooms/ann/**']);
    assert.equal((await eventually(() => socket.all.find(({ kind }) => kind === 'message'), 'no message')).data, 'hers');
    assert.equal((await socket.ask({ kind: 'publish', topic: 'rooms/ann/2', data: 'x' })).kind, 'ok');
    assert.equal((await socket.ask({ kind: 'publish', topic: 'rooms/bob/2', data: 'x' })).code, 'forbidden');
  });

  test('has one request at a time, however many wait for it', async (t) => {
    let open;
    const opened = new Promise((resolve) => (open = resolve));
    const app = await application(t, async (question) => {
      await opened;
      return byName(question);
    });
    const broker = await hooked(t, app, 'timeout_ms = 10000');
    const asked = Array.from({ length: 50 }, () => broker.as('ann', '/topics/rooms/ann/1', { method: 'POST', body: 'x' }));
    await eventually(() => app.asked.length > 0, 'nobody was asked');
    open();
    assert.deepEqual(new Set((await Promise.all(asked)).map(({ status }) => status)), new Set([201]));
    assert.equal(app.asked.length, 1);
  });

  test('ends what it opened when it holds no more, and is asked for again', async (t) => {
    const app = await application(t, byName);
    const broker = await hooked(t, app, 'max_age_seconds = 1');
    const stream = await broker.as('ann', '/topics/rooms/ann/1?format=ndjson');
    assert.match(stream.text, /"kind":"bye".*"reason":"expired"/);
    assert.equal((await broker.as('ann', '/topics/rooms/ann/1')).status, 202);
    assert.ok(app.asked.length >= 2);
    app.answer = () => 403;
    await eventually(async () => (await broker.as('ann', '/topics/rooms/ann/1')).status === 401, 'the answer held for longer');
  });

  test('adds to what a token grants', async (t) => {
    const app = await application(t, ({ principal }) => ({ subscribe: principal?.subject === 'alice' ? ['rooms/vip'] : [] }));
    const broker = await hooked(t, app);
    assert.equal((await request(`${broker.base}/topics/rooms/vip`, { headers: as(token()) })).status, 202);
    assert.deepEqual(app.asked[0].question.principal, { issuer: 'https://app.example', subject: 'alice' });
    assertProblem(await request(`${broker.base}/topics/rooms/vip`, { headers: as(token({ sub: 'bob' })) }), 403, 'forbidden');
    assert.equal((await request(`${broker.base}/topics/users/alice/x`, { headers: as(token()) })).status, 202);
  });
});

describe('a hook that can’t be asked', () => {
  for (const [name, answer] of [
    ['fails', () => 500],
    ['says nonsense', () => 'no JSON'],
    ['grants what is no pattern', () => ({ subscribe: ['a//b'] })],
    ['says what nobody knows', () => ({ admin: true })],
    ['leads elsewhere', () => 302],
    ['answers at length', () => ({ subject: 'x'.repeat(100_000) })],
    ['takes its time', () => new Promise(() => {})],
    ['drips', () => DRIPS],
  ]) {
    test(`${name}: 503, and everything else goes on`, async (t) => {
      const app = await application(t, answer);
      const broker = await hooked(t, app, 'timeout_ms = 300');
      const refused = await broker.as('ann', '/topics/rooms/ann/1');
      assertProblem(refused, 503, 'access-unavailable');
      assert.ok(Number(refused.headers.get('retry-after')) > 0);
      assert.equal((await broker.as('ann', '/topics/public/x')).status, 202);
      assert.notEqual(app.asked.length, 0);
      const { host, pathname } = new URL(app.url);
      assert.ok(app.asked.every(({ target, headers }) => headers.host === host && target === pathname));
    });
  }

  test('grants what is asked, where the settings say so', async (t) => {
    const app = await application(t, () => 500);
    const broker = await hooked(t, app, 'on_error = "allow"');
    assert.equal((await broker.as('ann', '/topics/rooms/ann/1', { method: 'POST', body: 'x' })).status, 201);
    assertProblem(await broker.as('ann', '/topics/users/bob/1'), 401, 'unauthorized');
  });

  test('is asked no more than it can take', async (t) => {
    const app = await application(t, async (question) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return byName(question);
    });
    const broker = await hooked(t, app, 'timeout_ms = 5000');
    const users = Array.from({ length: 200 }, (_, index) => `u${index}`);
    const statuses = await Promise.all(users.map(async (user) => (await broker.as(user, `/topics/rooms/${user}/1`)).status));
    assert.deepEqual(new Set(statuses), new Set([202]));
    assert.ok(app.most <= 32, `${app.most} at a time`);
  });
});

describe('a cookie', () => {
  test('decides nothing for a page from elsewhere', async (t) => {
    const app = await application(t, byName);
    const broker = await hooked(t, app);
    // The same rules as for the cookie of a token: a known origin, on whatever changes something.
    const silent = await request(`${broker.base}/topics/rooms/ann/1`, { method: 'POST', body: 'x', headers: { cookie: 'session=ann' } });
    assertProblem(silent, 401, 'unauthorized');
    assert.deepEqual(app.asked[0].question.headers, {});
    assert.equal((await broker.as('ann', '/topics/rooms/ann/1', { method: 'POST', body: 'x' })).status, 201);
  });

  test('is neither in the log nor in a metric', async (t) => {
    const app = await application(t, byName);
    const broker = await hooked(t, app);
    await broker.as('CANARY', '/topics/rooms/x');
    app.answer = () => 500;
    await broker.as('CANARY', '/topics/rooms/y');
    const metrics = await broker.metrics();
    await broker.end('SIGTERM');
    assert.match(broker.stderr, /a decision could not be had/);
    for (const secret of ['CANARY', SIGNED, KEY.toString()]) assert.ok(!(broker.stderr + metrics).includes(secret), secret);
  });
});

describe('idempotency keys', () => {
  test('of two users whom the hook names are two', async (t) => {
    const app = await application(t, ({ headers }) => ({ subject: headers.cookie, publish: ['rooms/all'], subscribe: ['rooms/all'] }));
    const broker = await hooked(t, app);
    const headers = { 'idempotency-key': '"same"' };
    for (const user of ['ann', 'bob']) {
      const answer = await broker.as(user, '/topics/rooms/all', { method: 'POST', body: 'x', headers });
      assert.equal(answer.headers.get('idempotency-replayed'), null, user);
    }
    const again = await broker.as('ann', '/topics/rooms/all', { method: 'POST', body: 'x', headers });
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
  });
});
