// Who may: every way to ask, with every kind of credential, against the binary; expiry and revocation of what is open.

import assert from 'node:assert/strict';
import { once as event } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:http2';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Broker, eventually, run } from './support/broker.mjs';
import { assertProblem, freshTopic, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { Raw } from './support/raw.mjs';
import { as, granting, guarded, inSeconds, ISSUER, SECTION, SECRET, token } from './support/tokens.mjs';

const RECORDS = { manage: ['$access/**'] };

let broker;
let operator;
before(async () => {
  broker = await guarded();
  operator = (await readFile(path.join(broker.data, 'operator.key'), 'utf8')).trim();
});
after(() => broker.stop());

const ask = (credential, url, { headers, ...options } = {}) =>
  request(broker.base + url, { ...options, headers: { ...headers, ...as(credential) } });
const post = (credential, url, value, headers = {}) =>
  ask(credential, url, { method: 'POST', body: JSON.stringify(value), headers: { 'content-type': 'application/json', ...headers } });
const revoke = async (revocation) => {
  const answer = await post(operator, '/revocations', { issuer: ISSUER, ...revocation });
  assert.equal(answer.status, 201, answer.text);
};

/** The status, and the code of a refusal, of a GET whose answer may have no end. */
async function opened(credential, url, headers = {}) {
  const abort = new AbortController();
  const response = await fetch(broker.base + url, { headers: { ...headers, ...as(credential) }, signal: abort.signal });
  const refused = response.status >= 400 ? await response.json() : {};
  abort.abort();
  return { status: response.status, code: refused.code, challenge: response.headers.get('www-authenticate') };
}

/** The same by HTTP/2, with prior knowledge. */
async function overHttp2(credential, url, body) {
  const session = connect(broker.base);
  try {
    const stream = session.request({ ':path': url, ':method': body ? 'POST' : 'GET', ...as(credential) });
    stream.end(body);
    const [headers] = await event(stream, 'response');
    const status = headers[':status'];
    let text = '';
    if (status >= 400) for await (const chunk of stream) text += chunk;
    return { status, code: text ? JSON.parse(text).code : undefined, challenge: headers['www-authenticate'] };
  } finally {
    session.destroy();
  }
}

const outcome = ({ status, json, headers }) => ({ status, code: json?.code, challenge: headers.get('www-authenticate') });
const once = (options) => async (credential, topic) => outcome(await ask(credential, options.url(topic), options));

/** By a line on a WebSocket that the credential opened. */
const byLine = (line) => async (credential, topic, t) => {
  try {
    const socket = await LineSocket.open(t, broker.base, '/stream', { headers: as(credential) });
    const answer = await socket.ask(line(topic));
    return answer.kind === 'ok' ? { status: 200 } : { status: answer.status, code: answer.code, challenge: '' };
  } catch (error) {
    if (!error.status) throw error;
    return { status: error.status, code: JSON.parse(error.body).code, challenge: error.headers['www-authenticate'] };
  }
};

/** Every way to ask something of a topic. `ok` is the status of what is permitted. */
const WAYS = {
  page: { ok: 200, ask: once({ url: (topic) => `/topics/${topic}` }) },
  head: { ok: 200, ask: async (...args) => ({ ...(await once({ method: 'HEAD', url: (topic) => `/topics/${topic}` })(...args)), code: undefined }), bodiless: true },
  'long-poll': { ok: 202, ask: once({ url: (topic) => `/topics/${topic}?after=latest&wait=1` }) },
  atom: { ok: 200, ask: once({ url: (topic) => `/topics/${topic}?format=atom` }) },
  'json feed': { ok: 200, ask: once({ url: (topic) => `/topics/${topic}?format=jsonfeed` }) },
  query: {
    ok: 200,
    ask: async (credential, topic) => {
      const headers = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' };
      return outcome(await ask(credential, '/stream', { method: 'QUERY', body: `topic=${topic}`, headers }));
    },
  },
  raw: { ok: 200, ask: once({ url: (topic) => `/topics/${topic}?format=raw` }) },
  sse: { ok: 200, ask: (credential, topic) => opened(credential, `/topics/${topic}`, { accept: 'text/event-stream' }) },
  ndjson: { ok: 200, ask: (credential, topic) => opened(credential, `/topics/${topic}?format=ndjson`) },
  'stream of a set': { ok: 200, ask: (credential, topic) => opened(credential, `/stream?topic=${topic}&format=sse`) },
  publish: { ok: 201, ask: once({ method: 'POST', body: '1', url: (topic) => `/topics/${topic}` }) },
  batch: {
    ok: 201,
    ask: async (credential, topic) => {
      const headers = { 'content-type': 'application/x-ndjson' };
      return outcome(await ask(credential, '/stream', { method: 'POST', body: JSON.stringify({ topic, data: 1 }), headers }));
    },
  },
  'batch in part': {
    ok: 201,
    ask: async (credential, topic) => {
      const lines = [{ topic, data: 1 }, { topic: `${topic}/more`, data: 1 }].map((line) => JSON.stringify(line)).join('\n');
      const headers = { 'content-type': 'application/x-ndjson' };
      return outcome(await ask(credential, '/stream', { method: 'POST', body: lines, headers }));
    },
  },
  'sse over HTTP/2': { ok: 200, ask: (credential, topic) => overHttp2(credential, `/topics/${topic}?format=sse`) },
  'publish over HTTP/2': { ok: 201, ask: (credential, topic) => overHttp2(credential, `/topics/${topic}`, '1') },
  'options, seen': { ok: 200, ask: once({ url: (topic) => `/options/${topic}` }) },
  'options, set': {
    ok: 200,
    ask: once({ method: 'PUT', body: '{"max_messages":1000}', headers: { 'content-type': 'application/json' }, url: (topic) => `/options/${topic}` }),
  },
  'options, taken back': { ok: 204, ask: once({ method: 'DELETE', url: (topic) => `/options/${topic}` }) },
  'line subscribe': { ok: 200, ask: byLine((topic) => ({ kind: 'subscribe', topic })) },
  'line page': { ok: 200, ask: byLine((topic) => ({ kind: 'page', topic })) },
  'line publish': { ok: 200, ask: byLine((topic) => ({ kind: 'publish', topic, data: 1 })) },
  'line options': { ok: 200, ask: byLine((topic) => ({ kind: 'options', topic })) },
  'line delete': { ok: 200, ask: byLine((topic) => ({ kind: 'delete', topic })) },
  delete: { ok: 204, ask: once({ method: 'DELETE', url: (topic) => `/topics/${topic}` }) },
};

/** Credentials, and what comes of them where Alice's own topic is asked for; `true` is what is permitted. */
const CREDENTIALS = {
  'no token': [() => undefined, 401, 'unauthorized'],
  'wrong signature': [() => token({}, { secret: `${SECRET}!` }), 401, 'token-invalid'],
  'no signature': [() => `${token().split('.').slice(0, 2).join('.')}.`, 401, 'token-invalid'],
  'algorithm none': [() => token({}, { header: { alg: 'none' } }), 401, 'token-invalid'],
  'wrong audience': [() => token({ aud: 'https://else.example' }), 401, 'token-invalid'],
  'no audience': [() => token({ aud: null }), 401, 'token-invalid'],
  'wrong issuer': [() => token({ iss: 'https://evil.example' }), 401, 'token-invalid'],
  'keys of another issuer': [() => token({ iss: 'https://other.example' }), 401, 'token-invalid'],
  expired: [() => token({ exp: inSeconds(-1) }), 401, 'token-expired'],
  'an end in words': [() => token({ exp: String(inSeconds(3600)) }), 401, 'token-invalid'],
  'no end': [() => token({ exp: null }), 401, 'token-invalid'],
  'not yet': [() => token({ nbf: inSeconds(60) }), 401, 'token-invalid'],
  revoked: [() => token({ jti: 'revoked' }), 401, 'token-invalid'],
  'no token at all': [() => 'x', 401, 'token-invalid'],
  "another's": [() => token({ sub: 'bob' }), 403, 'forbidden'],
  right: [() => token(), true],
};

describe('every way to ask, with every credential', () => {
  before(() => revoke({ token_id: 'revoked' }));

  for (const [way, { ok, ask: by, bodiless }] of Object.entries(WAYS)) {
    test(way, async (t) => {
      const topic = `users/alice/${way.replaceAll(/[^a-z]/g, '-')}`;
      assert.equal((await post(token(), `/topics/${topic}`, 1)).status, 201);
      for (const [name, [make, status, code]] of Object.entries(CREDENTIALS)) {
        const answer = await by(make(), topic, t);
        if (status === true) {
          assert.equal(answer.status, ok, `${name}: ${JSON.stringify(answer)}`);
          continue;
        }
        assert.equal(answer.status, status, `${name}: ${JSON.stringify(answer)}`);
        if (!bodiless) assert.equal(answer.code, code, name);
        if (status !== 401 || answer.challenge === '') continue;
        const expect = code === 'unauthorized' ? 'Bearer' : `Bearer error="invalid_token", error_description="${code}"`;
        assert.equal(answer.challenge, expect, name);
      }
    });
  }

  test('a message by its cursor, and the list of topics', async () => {
    const topic = `users/alice/${freshTopic('m')}`;
    const { json } = await post(token(), `/topics/${topic}`, 1);
    for (const [name, [make, status, code]] of Object.entries(CREDENTIALS)) {
      const answer = await ask(make(), `/messages/${json.cursor}`);
      if (status === true) assert.equal(answer.status, 200, name);
      else assertProblem(answer, status, code);
    }
    const listed = async (credential) => (await ask(credential, `/topics?prefix=${topic}`)).json.topics.length;
    assert.deepEqual([await listed(token()), await listed(token({ sub: 'bob' })), await listed()], [1, 0, 0]);
  });

  test('a refusal on loopback says what is wrong', async () => {
    const { json } = await ask(token({ aud: 'https://else.example' }), '/topics/users/alice/x');
    assert.match(json.detail, /for \["https:\/\/else\.example"\]/);
    const forbidden = await ask(token({ sub: 'bob' }), '/topics/users/alice/x');
    assert.match(forbidden.json.detail, /subscribe users\/alice\/x/);
  });

  test('what everybody may have, everybody has, and a pattern is narrowed', async () => {
    const publisher = granting({ publish: ['public/**', 'hidden/**'] });
    const [shown, hidden] = [freshTopic('public/n'), freshTopic('hidden/n')];
    for (const topic of [shown, hidden]) assert.equal((await post(publisher, `/topics/${topic}`, 1)).status, 201);
    for (const credential of [undefined, token()]) assert.equal((await ask(credential, `/topics/${shown}`)).status, 200);
    const { json } = await ask(undefined, '/topics/**?limit=1000');
    const names = json.messages.map(({ topic }) => topic);
    assert.ok(names.includes(shown) && names.every((name) => name.startsWith('public/')), names.join());
  });

  test('caches may keep what anybody may read, and nothing else', async () => {
    const writer = granting({ publish: ['public/**'] });
    const topic = freshTopic('public/c');
    const { json } = await post(writer, `/topics/${topic}`, 1);
    for (let n = 0; n < 3; n += 1) await post(writer, `/topics/${topic}`, n);
    const page = `/topics/${topic}?after=${json.cursor}&limit=1`;
    assert.match((await ask(undefined, page)).headers.get('cache-control'), /^public, .*immutable/);
    const own = await ask(token(), page);
    assert.equal(own.headers.get('cache-control'), 'private, no-cache');
    assert.match(own.headers.get('vary'), /authorization, cookie/);
  });

  test('long-polls at one cursor are answered to each as it may', async () => {
    const writer = granting({ publish: ['users/**'] });
    const { json } = await post(writer, '/topics/users/alice/w', 0);
    const wait = (sub) => ask(token({ sub }), `/topics/users/**?after=${json.cursor}&wait=20`);
    const waiting = ['alice', 'bob'].map(wait);
    for (const sub of ['alice', 'bob']) assert.equal((await post(writer, `/topics/users/${sub}/w`, sub)).status, 201);
    for (const [index, sub] of ['alice', 'bob'].entries()) {
      const topics = (await waiting[index]).json.messages.map(({ topic }) => topic);
      assert.deepEqual(topics, [`users/${sub}/w`]);
    }
  });

  test('an idempotency key is its user’s own', async () => {
    const writer = (sub) => granting({ publish: ['shared/**'] }, { sub });
    const send = (sub, value) => post(writer(sub), '/topics/shared/k', value, { 'idempotency-key': '"k"' });
    assert.equal((await send('alice', 1)).status, 201);
    const other = await send('bob', 2);
    assert.deepEqual([other.status, other.headers.get('idempotency-replayed')], [201, null]);
    assert.equal((await send('alice', 1)).headers.get('idempotency-replayed'), 'true');
  });
});

describe('what is open', () => {
  /** Ways to hold something open; each gives the reason of its `bye`. */
  const HELD = {
    sse: (t, credential) => held(t, credential, 'sse', /tailwire\.bye\ndata: (.*)\n/),
    ndjson: (t, credential) => held(t, credential, 'ndjson', /(\{"kind":"bye".*\})\n/),
    'sse over HTTP/2': heldOverHttp2,
    websocket: (t, credential) => socketHeld(t, credential, '/topics/users/alice/held'),
    'websocket without a subscription': (t, credential) => socketHeld(t, credential, '/stream'),
  };

  async function held(t, credential, format, bye) {
    const raw = await Raw.open(t, broker.port);
    const target = `/topics/users/alice/held?format=${format}`;
    await raw.send(`GET ${target} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer ${credential}\r\n\r\n`);
    await raw.until(/caught_up/);
    return async () => JSON.parse((await raw.until(bye))[1]).reason;
  }

  async function heldOverHttp2(t, credential) {
    const session = connect(broker.base);
    t.after(() => session.destroy());
    const stream = session.request({ ':path': '/topics/users/alice/held?format=sse', ...as(credential) });
    let text = '';
    stream.setEncoding('utf8').on('data', (chunk) => (text += chunk));
    stream.on('error', () => {});
    await eventually(() => /caught_up/.test(text), 'not caught up');
    const found = () => /tailwire\.bye\ndata: (.*)\n/.exec(text);
    return async () => JSON.parse((await eventually(found, 'no bye'))[1]).reason;
  }

  async function socketHeld(t, credential, url) {
    const socket = await LineSocket.open(t, broker.base, url, { headers: as(credential) });
    return async () => {
      await socket.closed;
      return socket.all.at(-1).reason;
    };
  }

  for (const [way, hold] of Object.entries(HELD)) {
    test(`${way} ends with its token`, async (t) => {
      const end = inSeconds(3);
      const bye = await hold(t, token({ exp: end }));
      assert.equal(await bye(), 'expired');
      const late = Date.now() - end * 1000;
      assert.ok(late >= -5 && late < 5000, `${late} ms after the end`);
    });

    for (const [what, by] of [
      ['its token', () => ({ token_id: `r-${way}` })],
      ['its user', () => ({ subject: `user-${way}`, issued_before_ms: Date.now() - 30_000 })],
    ]) {
      test(`${way} ends when ${what} is revoked, and another's goes on`, async (t) => {
        const claims = (jti, seconds) => ({ sub: `user-${way}`, jti, iat: inSeconds(seconds) });
        const grants = { subscribe: ['users/alice/held'] };
        const bye = await hold(t, granting(grants, claims(what === 'its token' ? `r-${way}` : `s-${way}`, -60)));
        const other = await hold(t, granting(grants, claims(`other-${way}`, 0)));
        await revoke(by());
        const began = performance.now();
        assert.equal(await bye(), 'revoked');
        assert.ok(performance.now() - began < 1000, `${performance.now() - began} ms after the revocation was answered`);
        const waiting = Symbol('open');
        assert.equal(await Promise.race([other(), new Promise((resolve) => setTimeout(resolve, 300, waiting))]), waiting);
      });
    }
  }

  test('a long-poll ends with its token, and is told at the next', async () => {
    const credential = token({ jti: 'polled' });
    const { json } = await ask(credential, '/topics/users/alice/polled');
    const waiting = ask(credential, `/topics/users/alice/polled?after=${json.cursor}&wait=25`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const began = performance.now();
    await revoke({ token_id: 'polled' });
    assert.ok([202, 401].includes((await waiting).status));
    assert.ok(performance.now() - began < 10_000);
    assertProblem(await ask(credential, '/topics/users/alice/polled'), 401, 'token-invalid');
  });

  test('a WebSocket that shows a new token goes on without a hole', async (t) => {
    const socket = await LineSocket.open(t, broker.base, '/topics/users/alice/renewed', { headers: as(token({ exp: inSeconds(2) })) });
    assert.equal((await socket.ask({ kind: 'authenticate', token: token() })).kind, 'ok');
    await new Promise((resolve) => setTimeout(resolve, 3000));
    assert.equal((await socket.ask({ kind: 'publish', topic: 'users/alice/renewed', data: 1 })).kind, 'ok');
    assert.ok(await eventually(() => socket.all.find(({ kind, data }) => kind === 'message' && data === 1), 'no message'));
    const refused = await socket.ask({ kind: 'authenticate', token: token({ aud: 'x' }) });
    assert.deepEqual([refused.status, refused.code], [401, 'token-invalid']);
  });

  test('a WebSocket may come without a token, and show one', async (t) => {
    const socket = await LineSocket.open(t, broker.base, '/topics/users/alice/later');
    assert.equal(socket.welcome.authenticate, true);
    assert.equal((await socket.ask({ kind: 'authenticate', token: token() })).kind, 'ok');
    await eventually(() => socket.all.find(({ kind, id }) => kind === 'ok' && id === 0), 'not subscribed');
  });
});

describe('API keys', () => {
  const create = async (body) => {
    const answer = await post(operator, '/keys', body);
    assert.equal(answer.status, 201, answer.text);
    return answer.json;
  };

  test('are made, used, listed, and revoked', async (t) => {
    const made = await create({ name: 'ci', publish: ['builds/**'], subscribe: ['builds/**'] });
    assert.match(made.key, /^twk_[a-z2-7]{16}_[a-z2-7]{52}$/);
    assert.equal((await post(made.key, '/topics/builds/1', 1)).status, 201);
    assertProblem(await post(made.key, '/topics/other', 1), 403, 'forbidden');
    const socket = await LineSocket.open(t, broker.base, '/topics/builds/**', { headers: as(made.key) });
    const { text } = await ask(operator, '/keys');
    const secret = made.key.split('_')[2];
    assert.ok(text.includes(made.id) && !text.includes(secret) && !text.includes('hash'));
    assert.equal((await ask(operator, `/keys/${made.id}`, { method: 'DELETE' })).status, 204);
    assertProblem(await post(made.key, '/topics/builds/1', 1), 401, 'token-invalid');
    await socket.closed;
    assert.equal(socket.all.at(-1).reason, 'revoked');
    assert.equal((await ask(operator, '/keys')).json.keys.find(({ id }) => id === made.id).revoked, true);
    assertProblem(await ask(operator, '/keys/aaaaaaaaaaaaaaaa', { method: 'DELETE' }), 404, 'not-found');
  });

  test('end when they are said to', async () => {
    const made = await create({ expires_in_seconds: 1, publish: ['builds/**'] });
    await eventually(async () => (await post(made.key, '/topics/builds/1', 1)).json.code === 'token-expired', 'goes on');
  });

  test('are for those who may manage them', async () => {
    const manager = granting(RECORDS);
    assert.equal((await ask(manager, '/keys')).status, 200);
    for (const [credential, status, code] of [[undefined, 401, 'unauthorized'], [token(), 403, 'forbidden'], [granting({ manage: ['**'] }), 403, 'forbidden']]) {
      assertProblem(await ask(credential, '/keys'), status, code);
      assertProblem(await post(credential, '/keys', {}), status, code);
      assertProblem(await ask(credential, `/keys/aaaaaaaaaaaaaaaa`, { method: 'DELETE' }), status, code);
      assertProblem(await post(credential, '/revocations', { issuer: ISSUER, subject: 'x' }), status, code);
    }
    for (const body of ['', '{', '{"publish":"a"}', '{"expires":1}']) {
      assertProblem(await ask(manager, '/keys', { method: 'POST', body }), 400, 'json-invalid');
    }
    assertProblem(await post(manager, '/topics/$access/keys', {}), 403, 'topic-reserved');
    assertProblem(await ask(manager, '/topics/$access/keys', { method: 'DELETE' }), 403, 'topic-reserved');
    assertProblem(await ask(manager, '/topics/$access/keys'), 403, 'forbidden');
  });

  test('and revocations outlive a restart, also of a log with a bound', async (t) => {
    const own = await guarded({ settings: 'log_max_bytes = 2000\n' });
    t.after(() => own.stop());
    const key = async () => (await readFile(path.join(own.data, 'operator.key'), 'utf8')).trim();
    const send = async (credential, url, body) => request(own.base + url, { method: 'POST', body, headers: as(credential) });
    const made = (await send(await key(), '/keys', '{"publish":["builds/**"]}')).json;
    assert.equal((await send(await key(), '/revocations', JSON.stringify({ issuer: ISSUER, subject: 'mallory' }))).status, 201);
    for (let n = 0; n < 20; n += 1) assert.equal((await send(made.key, '/topics/builds/1', 'x'.repeat(500))).status, 201);
    const before = await key();
    await own.restart();
    assert.equal((await send(made.key, '/topics/builds/1', 'x')).status, 201);
    assertProblem(await send(token({ sub: 'mallory' }), '/topics/users/mallory/x', 'x'), 401, 'token-invalid');
    assertProblem(await send(before, '/keys', '{}'), 401, 'token-invalid');
    await own.crash();
    assertProblem(await send(token({ sub: 'mallory' }), '/topics/users/mallory/x', 'x'), 401, 'token-invalid');
  });
});

describe('browsers', () => {
  const ORIGIN = 'https://page.example';
  let site;
  before(async () => {
    site = await guarded({ args: ['--public-url', 'https://rt.example', '--allow-origin', ORIGIN, '--allow-origin', '*'] });
  });
  after(() => site.stop());
  const send = (url, options) => request(site.base + url, options);
  const cookie = (credential) => ({ cookie: `x=y; __Host-tailwire=${credential}` });

  test('get a cookie for a token, and lose it', async () => {
    for (const options of [{ body: token() }, { headers: as(token()) }]) {
      const answer = await send('/session', { method: 'POST', ...options });
      assert.equal(answer.status, 204, answer.text);
      const set = answer.headers.get('set-cookie');
      assert.match(set, /^__Host-tailwire=[^;]+; Path=\/; Max-Age=3[56]\d\d; HttpOnly; SameSite=Lax; Secure$/);
    }
    assert.match((await send('/session', { method: 'DELETE' })).headers.get('set-cookie'), /^__Host-tailwire=; .*Max-Age=0/);
    assertProblem(await send('/session', { method: 'POST' }), 401, 'unauthorized');
    assertProblem(await send('/session', { method: 'POST', body: token({ aud: 'x' }) }), 401, 'token-invalid');
    // One that has run out does not keep its successor from being set.
    const renewed = await send('/session', { method: 'POST', body: token(), headers: cookie(token({ exp: inSeconds(-100) })) });
    assert.equal(renewed.status, 204);
    assertProblem(await send('/session', { method: 'POST', body: token(), headers: { origin: 'null' } }), 403, 'foreign-origin');
  });

  test('are believed by their cookie where a page may ask', async () => {
    const asked = async (method, origin, url = '/topics/users/alice/b') => {
      const headers = { ...cookie(token()), ...(origin && { origin }) };
      return (await send(url, { method, headers, ...(method === 'POST' && { body: '1' }) })).status;
    };
    assert.equal(await asked('POST', 'https://rt.example'), 201);
    assert.equal(await asked('POST', ORIGIN), 201);
    assert.equal(await asked('GET'), 200);
    assert.equal(await asked('POST'), 401, 'no page says that it asks');
    assert.equal(await asked('POST', 'https://any.example'), 401, 'any origin is allowed, but none speaks for a user');
    assert.equal(await asked('DELETE', 'https://any.example'), 401);
  });

  test('may send cookies from origins with a name', async () => {
    const allowed = async (origin) => {
      const { headers } = await send('/topics/public/x', { headers: { origin } });
      return [headers.get('access-control-allow-origin'), headers.get('access-control-allow-credentials')];
    };
    assert.deepEqual(await allowed(ORIGIN), [ORIGIN, 'true']);
    assert.deepEqual(await allowed('https://any.example'), ['https://any.example', null]);
  });

  test('open WebSockets by a cookie from pages that may', async (t) => {
    const open = (origin) => LineSocket.open(t, site.base, '/topics/users/alice/ws', { headers: { ...cookie(token()), ...(origin && { origin }) } });
    assert.equal((await open(ORIGIN)).welcome.authenticate, undefined);
    assert.equal((await open('https://any.example')).welcome.authenticate, true);
    assert.equal((await open()).welcome.authenticate, true);
  });

  test('open a URL once by a ticket, which no link repeats', async () => {
    assertProblem(await send('/tickets', { method: 'POST' }), 401, 'unauthorized');
    const issued = await send('/tickets', { method: 'POST', headers: as(token()) });
    assert.equal(issued.status, 201);
    const url = `/topics/users/alice/b?limit=1&ticket=${issued.json.ticket}`;
    const read = await send(url);
    assert.equal(read.status, 200);
    assert.ok(!(read.headers.get('link') ?? '').includes(issued.json.ticket));
    assertProblem(await send(url), 401, 'token-invalid');
  });

  test('that come back by EventSource just after the end are told to come again', async () => {
    const get = (credential, accept) => send('/topics/users/alice/b', { headers: { ...cookie(credential), accept } });
    const soon = await get(token({ exp: inSeconds(-2) }), 'text/event-stream');
    assert.deepEqual([soon.status, soon.headers.get('content-type')], [200, 'text/event-stream']);
    assert.match(soon.text, /^retry: \d+\nevent: tailwire.bye\ndata: .*"expired"/);
    assert.equal((await get(token({ exp: inSeconds(-2) }), 'application/json')).status, 401);
    assert.equal((await get(token({ exp: inSeconds(-100) }), 'text/event-stream')).status, 401);
  });

  test('and others reach the hosts of public_urls, and no other', async (t) => {
    const head = async (host, path) => {
      const raw = await Raw.open(t, site.port);
      await raw.send(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      return Number((await raw.until(/^HTTP\/1.1 (\d+)/))[1]);
    };
    for (const host of ['rt.example', 'rt.example:443', 'localhost']) assert.equal(await head(host, '/topics/public/x'), 202, host);
    for (const host of ['evil.example', 'rt.example.evil.example', 'rt.example:8443']) {
      assert.equal(await head(host, '/topics/public/x'), 421, host);
    }
  });
});

describe('a trusted header', () => {
  const section = (from) => `${SECTION}\n[[access.rule]]\nwho = "header"\nsubscribe = ["h/{sub}/**"]\n\n[access.trusted_header]\nname = "X-User"\nfrom = ["${from}"]\n`;

  test('names the user, from those who are believed', async (t) => {
    const own = await guarded({ section: section('127.0.0.0/8'), args: ['--allow-origin', '*'] });
    t.after(() => own.stop());
    const status = async (headers, topic = 'h/alice/x') => (await request(`${own.base}/topics/${topic}`, { headers })).status;
    assert.equal(await status({ 'x-user': 'alice' }), 202);
    assert.equal(await status({ 'x-user': 'alice' }, 'h/bob/x'), 403);
    assert.equal(await status({}), 401);
    assert.equal(await status({ 'x-user': '' }), 401);
    assert.equal(await status({ 'x-user': 'alice', origin: 'https://any.example' }), 401);
    assert.equal(await status({ 'x-user': 'alice', ...as(token({ sub: 'bob' })) }), 403, 'a token wins');
    const raw = await Raw.open(t, own.port);
    await raw.send('GET /topics/h/alice/x HTTP/1.1\r\nHost: localhost\r\nX-User: alice\r\nX-User: bob\r\n\r\n');
    assert.match((await raw.until(/^HTTP\/1.1 \d+/))[0], /401/);
    const session = connect(own.base);
    t.after(() => session.destroy());
    const stream = session.request({ ':path': '/topics/h/alice/x', 'x-user': 'alice' });
    const [answered] = await event(stream, 'response');
    assert.equal(answered[':status'], 202, 'over HTTP/2');
  });

  test('is nothing from others', async (t) => {
    const own = await guarded({ section: section('10.0.0.0/8') });
    t.after(() => own.stop());
    assert.equal((await request(`${own.base}/topics/h/alice/x`, { headers: { 'x-user': 'alice' } })).status, 401);
  });
});

describe('the configuration', () => {
  const start = async (settings, args = []) => {
    const config = path.join(broker.data, 'other.toml');
    await writeFile(config, settings);
    return run(['serve', '--config', config, '--data', path.join(broker.data, 'other'), '--listen', '127.0.0.1:0', ...args]);
  };

  test('says what is wrong, and where', async () => {
    for (const [settings, expect] of [
      ['[access]\nleway_seconds = 1\n', /:2: unknown key `leway_seconds`; did you mean leeway_seconds\?/],
      ['[access]\n[[access.rule]]\nwho = "any"\nsubscribe = ["a//b"]\n', /:4: access\.rule\[0\]\.subscribe\[0\]: /],
      [`[access]\naudience = "a"\n[[access.issuer]]\nissuer = "i"\nsecrets = "${SECRET}"\n`, /:5: access: .*expected a sequence/],
      ['[access]\naudience = "a"\n[[access.issuer]]\nissuer = "i"\nsecrets = ["short"]\n', /:5: access\.issuer\[0\]\.secrets\[0\]: /],
      ['[access]\n[[access.issuer]]\nissuer = "i"\nsecrets = ["file:/nowhere"]\n', /:1?\d: access/],
      ['[access.hook]\nurl = "ftp://127.0.0.1:1"\ntopics = ["a"]\nactions = ["publish"]\n', /:2: access\.hook\.url: .*http or https/],
    ]) {
      const { code, stderr } = await start(settings);
      assert.equal(code, 2, stderr);
      assert.match(stderr, expect);
      assert.ok(!stderr.includes(SECRET), stderr);
    }
  });

  test('is needed where others can reach the broker', async () => {
    const { code, stderr } = await run(['serve', '--listen', '0.0.0.0:0', '--data', path.join(broker.data, 'public')]);
    assert.notEqual(code, 0);
    assert.match(stderr, /\[access\].*--insecure-public/s);
  });

  test('is read again at SIGHUP, and a wrong one is not', async (t) => {
    const own = await guarded();
    t.after(() => own.stop());
    const status = async () => (await request(`${own.base}/topics/later/x`)).status;
    const socket = await LineSocket.open(t, own.base, '/topics/public/x');
    assert.equal(await status(), 401);
    await writeFile(own.config, SECTION.replace('"public/**"', '"later/**"'));
    own.child.kill('SIGHUP');
    await eventually(async () => (await status()) === 202, 'the rule is not in force');
    await socket.closed;
    assert.equal(socket.all.at(-1).reason, 'revoked', 'what anonymous may no longer read has ended');
    await writeFile(own.config, '[access]\nnonsense = 1\n');
    own.child.kill('SIGHUP');
    await eventually(() => /could not be reloaded/.test(own.stderr), 'nobody was told');
    assert.equal(await status(), 202);
  });
});

describe('secrets', () => {
  test('stand in no log and in no metric', async (t) => {
    const own = await guarded({ args: ['--log-level', 'trace'] });
    t.after(() => own.stop());
    const send = (url, options) => request(own.base + url, options);
    const key = (await readFile(path.join(own.data, 'operator.key'), 'utf8')).trim();
    const made = (await send('/keys', { method: 'POST', body: '{"publish":["**"]}', headers: as(key) })).json.key;
    const ticket = (await send('/tickets', { method: 'POST', headers: as(token()) })).json.ticket;
    const [good, bad] = [token(), token({ aud: 'x' }, { secret: `${SECRET}!` })];
    for (const credential of [good, bad, made, key, `${made}x`]) {
      await send('/topics/users/alice/x', { method: 'POST', body: 'CANARY-BODY', headers: as(credential) });
      await send('/topics/users/alice/x', { headers: { cookie: `__Host-tailwire=${credential}` } });
      await send('/session', { method: 'POST', body: credential });
      const socket = await LineSocket.open(t, own.base, '/stream');
      await socket.ask({ kind: 'authenticate', token: credential });
    }
    for (let n = 0; n < 2; n += 1) await send(`/topics/users/alice/x?ticket=${ticket}`);
    const metrics = await own.metrics();
    await own.end('SIGTERM');
    const said = own.stdout + own.stderr + metrics;
    assert.match(own.stderr, /a credential is refused/);
    for (const secret of [good, bad, made, key, ticket, SECRET, 'CANARY-BODY']) {
      const tail = secret.slice(-20);
      assert.ok(!said.includes(tail), `a secret was written: …${tail}`);
    }
  });
});

describe('the issuers of credentials', () => {
  const METADATA = '/.well-known/oauth-protected-resource';

  test('are listed for clients, and the challenge says where', async (t) => {
    const own = await guarded({ settings: 'public_urls = ["https://rt.example", "https://other.example/rt"]\n' });
    t.after(() => own.stop());
    const read = (target) => request(own.base + target);
    const expected = {
      resource: 'https://rt.example',
      bearer_methods_supported: ['header'],
      authorization_servers: [ISSUER, 'https://other.example'],
    };
    const metadata = await read(METADATA);
    assert.deepEqual([metadata.status, metadata.json], [200, expected]);
    assert.equal((await read(`${METADATA}/rt`)).json.resource, 'https://other.example/rt');
    assertProblem(await read(`${METADATA}/nothing`), 404, 'not-found');
    const challenge = `Bearer resource_metadata="https://rt.example${METADATA}"`;
    assert.equal((await read('/topics/users/alice/x')).headers.get('www-authenticate'), challenge);
    const refused = await request(`${own.base}/topics/users/alice/x`, { headers: as('nonsense') });
    assert.equal(refused.headers.get('www-authenticate'), `${challenge}, error="invalid_token", error_description="token-invalid"`);
  });

  test('are listed nowhere without access control or a public URL', async (t) => {
    assertProblem(await request(broker.base + METADATA), 404, 'not-found');
    const open = await Broker.start();
    t.after(() => open.stop());
    assertProblem(await request(open.base + METADATA), 404, 'not-found');
  });
});

describe('the access log', () => {
  test('has a line for each request, without what is secret', async (t) => {
    const own = await guarded({ args: ['--access-log', '--log-level', 'warn'] });
    t.after(() => own.stop());
    const credential = token();
    await request(`${own.base}/topics/users/alice/x?ticket=CANARY&limit=5`, { method: 'POST', body: 'CANARY', headers: as(credential) });
    await request(`${own.base}/topics/public/x?after=latest&wait=1`);
    await request(`${own.base}/topics/users/bob/x`, { headers: as(credential) });
    const socket = await LineSocket.open(t, own.base, '/stream', { headers: as(credential) });
    assert.ok(socket.welcome);
    for (let n = 0; n < 30; n += 1) await request(`${own.base}/readyz`);
    await own.end('SIGTERM');
    const lines = own.stderr.split('\n').filter((line) => line.includes('tailwire_access_log'));
    const found = (path, status, who) => lines.filter((line) => new RegExp(`path="?${path}"?.* status=${status} who="?${who}"? `).test(line));
    assert.equal(found('/topics/users/alice/x', '\\d+', 'alice').length, 1, lines.join('\n'));
    assert.equal(found('/topics/public/x', 202, '').length, 1);
    assert.equal(found('/topics/users/bob/x', 403, 'alice').length, 1);
    assert.equal(found('/stream', 101, 'alice').length, 1);
    assert.ok(found('/readyz', 200, '').length > 30, 'no limit');
    assert.ok(lines.every((line) => /client="?127\.0\.0\.1/.test(line)));
    for (const secret of ['CANARY', credential.slice(-20)]) assert.ok(!own.stderr.includes(secret));
  });

  test('is off unless it is asked for', () => assert.doesNotMatch(broker.stderr, /tailwire_access_log/));
});
