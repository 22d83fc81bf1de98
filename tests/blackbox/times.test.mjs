// Starts by time as somebody hostile or careless writes them, and parameters that don't go together: the same answer, and the same
// code, on each transport.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { assertProblem, freshTopic, publish, publishBatch, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';

/** Before all messages of the log, however it is said. */
const BEFORE_ALL = [
  '0000-01-01T00:00:00Z',
  '0000-02-29T00:00:00Z',
  '0001-01-01T00:00:00Z',
  '0000-01-01T00:00:00+23:59',
  '1969-12-31T23:59:59.999Z',
  '1970-01-01T00:00:00Z',
  '1970-01-01T00:00:00+23:59',
  '2000-02-29t00:00:00z',
  '2000-02-29 00:00:00-00:00',
  `2000-02-29T00:00:00.${'123456789'.repeat(30)}Z`,
  '2016-12-31T23:59:60Z',
  '2016-12-31T23:59:60.999-12:34',
  '-1d',
  '-00000000000000000001d',
  '-18446744073709551615s',
  '-18446744073709551616s',
  '-9223372036854775808d',
  `-${'9'.repeat(200)}d`,
];
/** After all. */
const AFTER_ALL = ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:60Z', '9999-12-31T23:59:59-23:59', '2999-12-31T00:00:00+23:59'];
/** They look like times, and are none. */
const NO_TIMES = [
  '0000-00-00T00:00:00Z',
  '0000-02-30T00:00:00Z',
  '1900-02-29T00:00:00Z',
  '2026-02-29T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '2026-11-31T00:00:00Z',
  '2026-11-30T24:00:00Z',
  '2026-11-30T10:60:00Z',
  '2026-11-30T10:00:61Z',
  '2026-11-30T10:00:00',
  '2026-11-30T10:00Z',
  '2026-11-30',
  '2026-11-30T10:00:00.Z',
  '2026-11-30T10:00:00,5Z',
  '2026-11-30T10:00:00+24:00',
  '2026-11-30T10:00:00+23:60',
  '2026-11-30T10:00:00+0100',
  '2026-11-30T10:00:00+1:00',
  '2026-11-30T10:00:00 UTC',
  '2026-11-30T10:00:00Z[Europe/Berlin]',
  '2026-11-30T10:00:00ZZ',
  '2026-W48-1T10:00:00Z',
  '2026-11-30T10:00:0\u0000Z',
  '2026-11-30T1０:00:00Z',
  '-',
  '-s',
  '-1',
  '-1w',
  '-1M',
  '-1.5h',
  '-1e3s',
  '-0x10s',
  '-1h30m',
  '--1m',
  '-+1m',
  '- 1m',
  '-1 m',
  '-1m\n',
  '-１m',
  '-1µ',
];
/** They look like nothing. */
const NOTHING = ['', '1h', 'now', 'P1D', '1796032800', '20261130T100000Z', '10000-01-01T00:00:00Z', '+10000-01-01T00:00:00Z', 'tomorrow'];

/** What a start comes to: how many messages, or a refusal. */
const found = (count) => ({ messages: count });
const refused = ({ code, parameter }) => ({ code, parameter });

const encoded = (topic, value, more = '') => `/topics/${topic}?after=${encodeURIComponent(value)}${more}`;

async function document(url, count) {
  const answer = await request(url);
  if (answer.status >= 400) return refused(answer.json);
  assert.ok(answer.status === 200 || answer.status === 202, answer.text);
  return found(count(answer));
}

async function stream(url, marks, caughtUp) {
  const abort = new AbortController();
  const response = await fetch(url, { signal: AbortSignal.any([abort.signal, AbortSignal.timeout(20_000)]) });
  if (response.status !== 200) return refused(await response.json());
  let text = '';
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (text.includes(caughtUp)) break;
  }
  abort.abort();
  assert.ok(text.includes(caughtUp), text);
  return found(text.split(marks).length - 1);
}

async function upgraded(t, base, topic, value) {
  try {
    const socket = await LineSocket.open(t, base, encoded(topic, value));
    const lines = await socket.linesUntil(({ kind }) => kind === 'caught_up');
    return found(lines.filter(({ kind }) => kind === 'message').length);
  } catch (error) {
    if (!error.body) throw error;
    return refused(JSON.parse(error.body));
  }
}

async function subscribed(t, base, topic, value) {
  const socket = await LineSocket.open(t, base);
  const ok = await socket.ask({ kind: 'subscribe', topic, after: value });
  if (ok.kind === 'error') return refused(ok);
  const lines = await socket.linesUntil(({ kind }) => kind === 'caught_up');
  return found(lines.filter(({ kind }) => kind === 'message').length);
}

async function paged(t, base, topic, value) {
  const socket = await LineSocket.open(t, base);
  const ok = await socket.ask({ kind: 'page', topic, after: value });
  return ok.kind === 'error' ? refused(ok) : found(ok.messages.length);
}

async function queried(base, topic, value) {
  const answer = await request(`${base}/stream`, {
    method: 'QUERY',
    body: new URLSearchParams({ topic, after: value }).toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
  return answer.status >= 400 ? refused(answer.json) : found(answer.json.messages.length);
}

const ofPage = ({ json }) => json.messages.length;
const WAYS = {
  page: (t, base, topic, value) => document(base + encoded(topic, value), ofPage),
  'long-poll': (t, base, topic, value) => document(base + encoded(topic, value, '&wait=1'), ofPage),
  pattern: (t, base, topic, value) => document(base + encoded(topic.replace(/[^/]+$/, '*'), value), ({ json }) => json.messages.filter((own) => own.topic === topic).length),
  atom: (t, base, topic, value) => document(base + encoded(topic, value, '&format=atom'), ({ text }) => text.split('<entry>').length - 1),
  jsonfeed: (t, base, topic, value) => document(base + encoded(topic, value, '&format=jsonfeed'), ({ text }) => JSON.parse(text).items.length),
  sse: (t, base, topic, value) => stream(base + encoded(topic, value, '&format=sse&envelope=true'), '"kind":"message"', 'tailwire.caught_up\n'),
  ndjson: (t, base, topic, value) => stream(base + encoded(topic, value, '&format=ndjson'), '"kind":"message"', '"kind":"caught_up"'),
  websocket: upgraded,
  subscribe: subscribed,
  'page line': paged,
  query: (t, base, topic, value) => queried(base, topic, value),
};

describe('a start by time', () => {
  let broker;
  let topic;
  before(async () => {
    broker = await Broker.start();
    topic = freshTopic('times');
    await publishBatch(broker.base, topic, [1, 2, 3]);
  });
  after(() => broker.stop());

  for (const [name, way] of Object.entries(WAYS)) {
    const outcomes = (t, values) => Promise.all(values.map(async (value) => [value, await way(t, broker.base, topic, value)]));

    test(`before all messages, or after them: ${name}`, async (t) => {
      for (const [value, outcome] of await outcomes(t, BEFORE_ALL)) assert.deepEqual(outcome, found(3), value);
      for (const [value, outcome] of await outcomes(t, AFTER_ALL)) assert.deepEqual(outcome, found(0), value);
    });

    test(`no time at all: ${name}`, async (t) => {
      for (const [value, outcome] of await outcomes(t, NO_TIMES)) {
        assert.deepEqual(outcome, { code: 'parameter-invalid', parameter: 'after' }, value);
      }
      for (const [value, outcome] of await outcomes(t, NOTHING)) {
        assert.deepEqual(outcome, { code: 'cursor-invalid', parameter: 'after' }, value);
      }
    });
  }

  test('percent-encoded or not, it is read once', async () => {
    const url = `${broker.base}/topics/${topic}?after=`;
    for (const raw of ['%2D1d', '-1%64', '-%31d', '2000-02-29T00%3A00%3A00Z', '2000-02-29T00:00:00%2B00:00', '2000-02-29T00:00:00+00:00', '2000-02-29+00:00:00+00:00']) {
      assert.equal((await request(url + raw)).json.messages.length, 3, raw);
    }
    for (const raw of ['%252D1d', '%2', '%zz', '-1d%00', '%FF', '-%FFd']) {
      const { status, json } = await request(url + raw);
      assert.deepEqual([status, json.parameter, ['cursor-invalid', 'parameter-invalid'].includes(json.code)], [400, 'after', true], raw);
    }
  });

  test('where no time is asked for, none is taken', async (t) => {
    const url = `${broker.base}/topics/${topic}`;
    for (const name of ['before', 'gap', 'archive']) {
      for (const value of ['-1d', '2026-11-30T10:00:00Z', 'latest']) {
        const problem = assertProblem(await request(`${url}?format=atom&${name}=${value}`), 400, 'cursor-invalid');
        assert.equal(problem.parameter, name, value);
      }
    }
    // An id that is none of ours is a place before the log, as it is for every other server's.
    const text = await request(`${url}?format=json`, { headers: { 'last-event-id': '-1d' } });
    assert.equal(text.status, 200);
    const socket = await LineSocket.open(t, broker.base);
    for (const line of [{ kind: 'message', cursor: '-1d' }, { kind: 'page', topic, before: '-1d' }, { kind: 'page', topic, gap: '-1d' }]) {
      assert.equal((await socket.ask(line)).code, 'cursor-invalid', JSON.stringify(line));
    }
    for (const value of [0, true, ['-1d'], { ago: '1d' }]) {
      const answer = await socket.ask({ kind: 'page', topic, after: value });
      assert.deepEqual([answer.kind, answer.parameter], ['error', 'after'], JSON.stringify(value));
    }
  });
});

describe('parameters together', () => {
  let broker;
  let topic;
  let url;
  let receipts;
  before(async () => {
    broker = await Broker.start();
    topic = freshTopic('together');
    url = `${broker.base}/topics/${topic}`;
    receipts = await publishBatch(broker.base, topic, Array.from({ length: 400 }, (_, title) => ({ title })));
  });
  after(() => broker.stop());

  const at = (number) => receipts[number].cursor;
  /** The cursor by which the subscription document names the archive before it. */
  const archive = async () => JSON.parse((await request(`${url}?format=jsonfeed`)).text)._tailwire.prev_archive.split('archive=')[1];

  test('one start, and not two', async () => {
    for (const [query, parameter] of [
      [`before=${at(9)}&after=${at(1)}`, 'before'],
      [`before=${at(9)}&after=earliest`, 'before'],
      [`before=${at(9)}&after=-1d`, 'before'],
      [`before=${at(9)}&last=3`, 'before'],
      [`before=${at(9)}&last=3&after=latest`, 'before'],
      [`after=-1d&last=3`, 'last'],
      [`after=2026-11-30T10:00:00Z&last=3`, 'last'],
      [`after=-1d&after=-1d`, 'after'],
      [`before=${at(9)}&before=${at(9)}`, 'before'],
      [`last=1&last=1`, 'last'],
      [`wait=1&wait=1`, 'wait'],
    ]) {
      for (const format of ['json', 'atom', 'jsonfeed', 'sse', 'ndjson', 'raw']) {
        const answer = await request(`${url}?${query}&format=${format}`);
        assert.equal(assertProblem(answer, 400, 'parameter-invalid').parameter, parameter, `${query} ${format}`);
      }
    }
  });

  test('looking back waits for nothing, in whatever format', async () => {
    for (const format of ['json', 'atom', 'jsonfeed']) {
      for (const more of ['wait=50', `wait=50&gap=${at(9)}`, 'wait=50&limit=2']) {
        const answer = await request(`${url}?before=${at(5)}&format=${format}&${more}`, { headers: { prefer: 'wait=50' } });
        assert.deepEqual([answer.status, answer.headers.get('preference-applied')], [200, null], `${format} ${more}`);
        assert.equal(answer.headers.get('retry-after'), null);
      }
    }
    const [first] = receipts;
    const nothing = await request(`${url}?before=${first.cursor}&wait=50&format=atom`);
    assert.deepEqual([nothing.status, nothing.text.includes('<entry>')], [200, false]);
  });

  test('a stream goes on and not back, whichever client asks for it', async (t) => {
    for (const headers of [{ accept: 'text/event-stream' }, { accept: 'text/event-stream', 'last-event-id': at(3) }, { accept: 'application/x-ndjson' }]) {
      assert.equal(assertProblem(await request(`${url}?before=${at(5)}`, { headers }), 400, 'parameter-invalid').parameter, 'before');
    }
    const failed = await LineSocket.open(t, broker.base, `/topics/${topic}?before=${at(5)}`).catch((error) => error);
    assert.deepEqual([failed.status, JSON.parse(failed.body).parameter], [400, 'before']);
  });

  test('an archive is what it is', async () => {
    const end = await archive();
    for (const format of ['atom', 'jsonfeed']) {
      const own = `${url}?format=${format}&archive=${end}`;
      for (const other of [`after=${at(1)}`, 'after=-1d', 'last=5', 'limit=5', `gap=${at(1)}`, `before=${at(1)}`, `archive=${end}`]) {
        assert.equal(assertProblem(await request(`${own}&${other}`), 400, 'parameter-invalid').parameter, 'archive', other);
      }
      const whole = await request(own);
      const waiting = await request(`${own}&wait=50`, { headers: { prefer: 'wait=50' } });
      assert.deepEqual([waiting.status, waiting.headers.get('preference-applied')], [200, null]);
      const tag = whole.headers.get('etag');
      for (const [tags, status] of [[tag, 304], [`W/"${at(1)}"`, 200], ['W/"nonsense"', 200]]) {
        const answer = await request(own, { headers: { 'a-im': 'feed', 'if-none-match': tags } });
        assert.deepEqual([answer.status, answer.headers.get('im')], [status, null], tags);
        assert.equal(answer.text, status === 200 ? whole.text : '');
      }
    }
    for (const format of ['json', 'sse', 'ndjson', 'raw']) {
      assert.equal(assertProblem(await request(`${url}?format=${format}&archive=${end}`), 400, 'parameter-invalid').parameter, 'archive');
    }
  });

  test('only a feed of the newest has deltas', async () => {
    const headers = { 'a-im': 'feed', 'if-none-match': `W/"${at(397)}"` };
    const look = async (query, more = {}) => {
      const answer = await request(`${url}?${query}`, { headers: { ...headers, ...more } });
      return [answer.status, answer.headers.get('im')];
    };
    for (const format of ['atom', 'jsonfeed']) {
      assert.deepEqual(await look(`format=${format}`), [226, 'feed']);
      assert.deepEqual(await look(`format=${format}`, { 'a-im': 'diffe, Feed;q=1' }), [226, 'feed']);
      for (const start of ['after=earliest', 'after=-1d', `after=${at(5)}`, 'last=50', `before=${at(5)}`]) {
        assert.deepEqual(await look(`format=${format}&${start}`), [200, null], start);
      }
      assert.deepEqual(await look(`format=${format}`, { 'a-im': 'diffe' }), [200, null]);
      // Tags that name no place of this log, or all.
      assert.deepEqual(await look(`format=${format}`, { 'if-none-match': 'W/"00000000-00000000001"' }), [200, null]);
      assert.deepEqual(await look(`format=${format}`, { 'if-none-match': '"nonsense"' }), [200, null]);
      assert.deepEqual(await look(`format=${format}`, { 'if-none-match': '*' }), [304, null]);
      assert.deepEqual(await look(`format=${format}`, { 'if-none-match': `W/"${at(1)}", W/"${at(397)}"` }), [226, 'feed']);
    }
    assert.deepEqual(await look('format=json'), [200, null]);
  });

  test('deltas with a limit or a wait miss nothing', async () => {
    const own = freshTopic('delta');
    const feed = `${broker.base}/topics/${own}?format=jsonfeed`;
    const first = await publish(broker.base, own, 'first');
    await publishBatch(broker.base, own, [1, 2, 3, 4, 5]);
    let tag = `W/"${first.cursor}"`;
    const met = [];
    for (;;) {
      const answer = await request(`${feed}&limit=2`, { headers: { 'a-im': 'feed', 'if-none-match': tag } });
      if (answer.status === 304) break;
      assert.equal(answer.status, 226);
      met.push(...JSON.parse(answer.text).items.map(({ title }) => title).reverse());
      tag = answer.headers.get('etag');
    }
    assert.deepEqual(met, ['1', '2', '3', '4', '5']);
    const headers = { 'a-im': 'feed', 'if-none-match': tag };
    const waited = await request(`${feed}&wait=1`, { headers });
    assert.deepEqual([waited.status, waited.headers.get('preference-applied')], [304, 'wait=1']);
    const waiting = request(`${feed}&wait=50`, { headers });
    await publish(broker.base, own, 'late');
    const answer = await waiting;
    assert.deepEqual([answer.status, JSON.parse(answer.text).items.map(({ title }) => title)], [226, ['late']]);
  });
});
