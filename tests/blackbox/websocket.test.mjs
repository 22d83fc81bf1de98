// The protocol `tailwire.v1`: handshake, subscriptions, requests, and what ends a connection.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { CURSOR, freshTopic, publish, publishBatch, readAll, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

const connect = (t, path, options) => LineSocket.open(t, broker.base, path, options);
const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const cursorsOf = (lines) => lines.map((line) => line.cursor);
const isCaughtUp = (sub) => (line) => line.kind === 'caught_up' && line.sub === sub;

describe('handshake', () => {
  test('the first line is a welcome with the epoch, the heartbeat and the limits', async (t) => {
    const socket = await connect(t);
    assert.equal(socket.all[0].kind, 'welcome');
    const { cursor } = await publish(broker.base, freshTopic(), 'x');
    assert.equal(socket.welcome.epoch, cursor.slice(0, 8));
    assert.ok(socket.welcome.heartbeat_ms > 0);
    assert.ok(socket.welcome.limits.pending > 0);
  });

  test('a stream without topics starts with no subscription', async (t) => {
    const socket = await connect(t, '/stream');
    await publish(broker.base, freshTopic(), 'x');
    assert.equal((await socket.ask({ kind: 'unsubscribe', sub: 0 })).code, 'subscription-unknown');
    const kinds = socket.all.map(({ kind }) => kind).filter((kind) => kind !== 'heartbeat');
    assert.deepEqual(kinds, ['welcome', 'error']);
  });

  const negotiations = [
    { offered: [], chosen: '' },
    { offered: ['tailwire.v1'], chosen: 'tailwire.v1' },
    { offered: ['unheard.of', 'tailwire.v1'], chosen: 'tailwire.v1' },
  ];
  for (const { offered, chosen } of negotiations) {
    test(`offered ${offered.join(', ') || 'nothing'}, chosen ${chosen || 'nothing'}`, async (t) => {
      const socket = await connect(t, '/stream', { protocols: offered });
      assert.equal(socket.socket.protocol, chosen);
    });
  }

  test('only unknown protocols offered is 400', async (t) => {
    const refused = await connect(t, '/stream', { protocols: ['unheard.of'] }).catch((error) => error);
    assert.equal(refused.status, 400);
    assert.equal(JSON.parse(refused.body).code, 'subprotocol-unknown');
  });

  test('a stream without topics and without an upgrade is 426', async () => {
    const answer = await request(`${broker.base}/stream`);
    assert.deepEqual([answer.status, answer.json.code], [426, 'upgrade-required']);
    assert.equal(answer.headers.get('upgrade'), 'websocket');
  });

  for (const [path, code] of [['/topics/a//b', 'topic-invalid'], ['/topics/a?after=x', 'cursor-invalid']]) {
    test(`a bad URL is 400, no upgrade: ${path}`, async (t) => {
      const refused = await connect(t, path).catch((error) => error);
      assert.deepEqual([refused.status, JSON.parse(refused.body).code], [400, code]);
    });
  }
});

describe('subscriptions', () => {
  test("the URL's is 0, and live by default", async (t) => {
    const topic = freshTopic();
    await publish(broker.base, topic, 'before');
    const socket = await connect(t, `/topics/${topic}`);
    const [ok] = await socket.linesUntil((line) => line.kind === 'ok');
    assert.equal(ok.id, 0);
    assert.match(ok.cursor, CURSOR);
    const { cursor } = await publish(broker.base, topic, 'after');
    const lines = await socket.linesUntil((line) => line.kind === 'message');
    assert.equal(lines.at(-1).cursor, cursor);
  });

  test('its ok comes before its lines; they are tagged until caught up, and then not', async (t) => {
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(5));
    const socket = await connect(t);
    const ok = await socket.ask({ kind: 'subscribe', id: 'mine', topic, after: receipts[0].cursor });
    assert.deepEqual(ok, { kind: 'ok', id: 'mine', cursor: receipts[0].cursor });
    const stored = await socket.linesUntil(isCaughtUp('mine'));
    assert.deepEqual(stored.map(({ kind, sub }) => `${kind} ${sub}`), [...Array(4).fill('message mine'), 'caught_up mine']);
    assert.deepEqual(cursorsOf(stored.slice(0, 4)), cursorsOf(receipts.slice(1)));
    const order = socket.all.map((line) => line.kind).filter((kind) => kind !== 'heartbeat');
    assert.deepEqual(order.slice(0, 3), ['welcome', 'ok', 'message']);
    const live = await publish(broker.base, topic, 'live');
    assert.deepEqual(await socket.line(), { kind: 'message', ...live, type: 'text/plain', data: 'live' });
  });

  test('a live line is sent once, however many subscriptions match', async (t) => {
    const root = freshTopic();
    const socket = await connect(t);
    for (const [id, topic] of [`${root}/a`, `${root}/*`, `${root}/**`, [`${root}/a`, `${root}/b`]].entries()) {
      assert.equal((await socket.ask({ kind: 'subscribe', id, topic })).kind, 'ok');
      await socket.linesUntil(isCaughtUp(id));
    }
    const cursors = [];
    for (const n of numbers(5)) cursors.push((await publish(broker.base, `${root}/${n % 2 ? 'a' : 'b'}`, 'x')).cursor);
    const lines = await socket.linesUntil((line) => line.cursor === cursors.at(-1));
    assert.deepEqual(cursorsOf(lines), cursors);
    assert.deepEqual(lines.map(({ sub }) => sub), Array(5).fill(undefined));
  });

  test('one that catches up does not disturb one that is live', async (t) => {
    const root = freshTopic();
    const stored = await publishBatch(broker.base, `${root}/old`, numbers(3000));
    const socket = await connect(t, `/topics/${root}/live`);
    await socket.linesUntil(isCaughtUp(0));
    socket.send(JSON.stringify({ kind: 'subscribe', id: 1, topic: `${root}/old`, after: 'earliest' }));
    const live = [];
    for (const n of numbers(20)) live.push((await publish(broker.base, `${root}/live`, `${n}`)).cursor);
    const lines = await socket.linesUntil(() => {
      const messages = socket.all.filter(({ kind }) => kind === 'message');
      return messages.length >= 3020 && socket.all.some(isCaughtUp(1));
    }).then(() => socket.all);
    const messages = lines.filter(({ kind }) => kind === 'message');
    assert.deepEqual(cursorsOf(messages.filter(({ topic }) => topic.endsWith('live'))), live);
    assert.deepEqual(cursorsOf(messages.filter(({ topic }) => topic.endsWith('old'))), cursorsOf(stored));
    assert.ok(messages.filter(({ topic }) => topic.endsWith('live')).every(({ sub }) => sub === undefined));
    assert.ok(messages.filter(({ topic }) => topic.endsWith('old')).every(({ sub }) => sub === 1));
  });

  test('many subscriptions catch up, each with all of its own', async (t) => {
    const root = freshTopic();
    const stored = await publishBatch(broker.base, `${root}/a`, numbers(200));
    const socket = await connect(t);
    const answers = await Promise.all(
      numbers(20).map((id) => socket.ask({ kind: 'subscribe', id, topic: `${root}/*`, after: stored[id * 10].cursor })),
    );
    assert.ok(answers.every(({ kind }) => kind === 'ok'));
    const live = [];
    for (const n of numbers(10)) live.push((await publish(broker.base, `${root}/b`, `${n}`)).cursor);
    let open = 20;
    let seen = 0;
    const isEnd = (line) => {
      if (line.kind === 'caught_up') open -= 1;
      if (line.cursor === live.at(-1)) seen += 1;
      return open === 0 && seen > 0;
    };
    const lines = await socket.linesUntil(isEnd);
    // What was published before a subscription caught up is tagged for it; the rest is sent once for all.
    for (const id of numbers(20)) {
      const end = lines.findIndex(isCaughtUp(id));
      const own = lines.filter(({ kind, sub }, index) => kind === 'message' && (sub === id || (sub === undefined && index > end)));
      const expected = [...cursorsOf(stored.slice(id * 10 + 1)), ...live];
      assert.deepEqual(cursorsOf(own), expected.slice(0, own.length));
      assert.ok(own.length === expected.length, `subscription ${id} has ${own.length} of ${expected.length}`);
    }
  });

  test('nothing comes after the ok of an unsubscribe', async (t) => {
    const topic = freshTopic();
    const socket = await connect(t);
    for (const round of numbers(20)) {
      const id = `s${round}`;
      await socket.ask({ kind: 'subscribe', id, topic });
      const publishing = Promise.all(numbers(10).map((n) => publish(broker.base, topic, `${round} ${n}`)));
      await socket.linesUntil(({ data }) => data?.startsWith(`${round} `));
      const answer = await socket.ask({ kind: 'unsubscribe', sub: id });
      assert.equal(answer.kind, 'ok');
      const end = socket.all.indexOf(answer);
      await publishing;
      await publish(broker.base, topic, 'after');
      // Answers of later requests come after whatever was on its way.
      await socket.ask({ kind: 'topics' });
      const late = socket.all.slice(end + 1).filter(({ kind }) => kind === 'message' || kind === 'caught_up');
      assert.deepEqual(late, []);
    }
  });

  test("the URL's subscription can be ended, and its id used again", async (t) => {
    const topic = freshTopic();
    const socket = await connect(t, `/topics/${topic}`);
    assert.equal((await socket.ask({ kind: 'unsubscribe', sub: 0 })).kind, 'ok');
    assert.equal((await socket.ask({ kind: 'unsubscribe', sub: 0 })).code, 'subscription-unknown');
    await publish(broker.base, topic, 'unheard');
    assert.equal((await socket.ask({ kind: 'subscribe', id: 0, topic })).kind, 'ok');
    const { cursor } = await publish(broker.base, topic, 'heard');
    const lines = await socket.linesUntil((line) => line.kind === 'message');
    assert.equal(lines.at(-1).cursor, cursor);
  });

  test('an id names one subscription only', async (t) => {
    const socket = await connect(t, `/topics/${freshTopic()}`);
    for (const id of [0, 1]) {
      if (id) await socket.ask({ kind: 'subscribe', id, topic: freshTopic() });
      const answer = await socket.ask({ kind: 'subscribe', id, topic: freshTopic() });
      assert.deepEqual([answer.kind, answer.status, answer.code], ['error', 409, 'subscription-exists']);
    }
    assert.equal((await socket.ask({ kind: 'subscribe', id: '1', topic: freshTopic() })).kind, 'ok');
  });

  test('an id that is used again is another subscription, also before the first has opened', async (t) => {
    const [first, second] = [freshTopic(), freshTopic()];
    await publishBatch(broker.base, first, numbers(100));
    const socket = await connect(t);
    const lines = [
      { kind: 'subscribe', id: 1, topic: first, last: 100 },
      { kind: 'unsubscribe', id: 2, sub: 1 },
      { kind: 'subscribe', id: 1, topic: second },
    ];
    // In one segment, so that all are there before the first has opened.
    socket.socket._socket.cork();
    for (const line of lines) socket.socket.send(JSON.stringify(line));
    socket.socket._socket.uncork();
    await socket.linesUntil(isCaughtUp(1));
    await publish(broker.base, first, 'x');
    const { cursor } = await publish(broker.base, second, 'y');
    await socket.linesUntil((line) => line.cursor === cursor);
    const topics = socket.all.filter(({ kind }) => kind === 'message').map(({ topic }) => topic);
    assert.deepEqual(topics, [second]);
  });

  test('there is a bound on subscriptions, and one that ended makes room', async (t) => {
    const socket = await connect(t);
    const max = socket.welcome.limits.subscriptions;
    const topics = numbers(max + 1).map(() => freshTopic());
    for (const id of numbers(max)) assert.equal((await socket.ask({ kind: 'subscribe', id, topic: topics[id] })).kind, 'ok');
    const refused = await socket.ask({ kind: 'subscribe', id: max, topic: topics[max] });
    assert.deepEqual([refused.status, refused.code], [429, 'subscriptions-too-many']);
    await socket.ask({ kind: 'unsubscribe', sub: 7 });
    assert.equal((await socket.ask({ kind: 'subscribe', id: max, topic: topics[max] })).kind, 'ok');
  });
});

describe('publishing', () => {
  test('1,000 pipelined publishes are stored in the order in which they were sent', async (t) => {
    const topic = freshTopic();
    const socket = await connect(t, `/topics/${topic}`);
    const answers = await Promise.all(numbers(1000).map((n) => socket.ask({ kind: 'publish', topic, data: n })));
    assert.ok(answers.every(({ kind }) => kind === 'ok'));
    const stored = await readAll(broker.base, `/topics/${topic}`);
    assert.deepEqual(stored.map(({ data }) => data), numbers(1000));
    assert.deepEqual(cursorsOf(answers), cursorsOf(stored));
    const heard = await socket.linesUntil((line) => line.cursor === stored.at(-1).cursor);
    assert.deepEqual(heard.filter(({ kind }) => kind === 'message').map(({ data }) => data), numbers(1000));
  });
});
