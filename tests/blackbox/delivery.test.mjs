// What is published is delivered, on every transport: all of it, once, in order, as it was.

import assert from 'node:assert/strict';
import { Agent, request as httpRequest } from 'node:http';
import { after, before, test } from 'node:test';

import { Broker } from './support/broker.mjs';
import { freshTopic, postLines, publish, publishBatch } from './support/http.mjs';
import { TRANSPORTS, open, textOf } from './support/transports.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

/** One test for each transport. */
function everywhere(name, body) {
  for (const transport of TRANSPORTS) {
    test(`${name}: ${transport.name}`, (t) => {
      const listen = (where) => open(t, transport, { base: broker.base, ...where });
      return body({ t, transport, listen });
    });
  }
}

const cursorsOf = (messages) => messages.map((message) => message.cursor);
const numbers = (from, to) => Array.from({ length: to - from }, (_, index) => from + index);

everywhere('what is published while one listens comes in order', async ({ listen }) => {
  const topic = freshTopic();
  const listener = await listen({ path: `/topics/${topic}`, after: 'latest' });
  const receipts = [];
  for (let n = 0; n < 20; n += 1) receipts.push(await publish(broker.base, topic, `message ${n}`));
  const messages = await listener.messages(20);
  assert.deepEqual(messages.map(textOf), numbers(0, 20).map((n) => `message ${n}`));
  assert.deepEqual(cursorsOf(messages), cursorsOf(receipts));
});

everywhere('each message comes by itself, not with the next', async ({ listen }) => {
  const topic = freshTopic();
  const listener = await listen({ path: `/topics/${topic}`, after: 'latest' });
  for (let n = 0; n < 5; n += 1) {
    const receipt = await publish(broker.base, topic, `${n}`);
    const [message] = await listener.messages(1);
    assert.equal(message.cursor, receipt.cursor);
  }
});

everywhere('a message has its topic, time, type and options', async ({ transport, listen }) => {
  if (!transport.hasTopic) return;
  const topic = freshTopic();
  const listener = await listen({ path: `/topics/${topic}`, after: 'latest', events: ['tick'] });
  const receipt = await publish(broker.base, `${topic}?event=tick&key=k%201`, '{"a":[1,2.50]}', {
    'content-type': 'application/json',
    'tailwire-header-trace-id': 'x y',
  });
  const [message] = await listener.messages(1);
  assert.deepEqual(message, {
    kind: 'message',
    ...receipt,
    type: 'application/json',
    key: 'k 1',
    event: 'tick',
    headers: { 'trace-id': 'x y' },
    data: { a: [1, 2.5] },
  });
});

everywhere('catch-up from a cursor, then live', async ({ listen }) => {
  const topic = freshTopic();
  const receipts = await publishBatch(broker.base, topic, numbers(0, 10));
  const listener = await listen({ path: `/topics/${topic}`, after: receipts[3].cursor });
  const stored = await listener.messages(6);
  assert.deepEqual(cursorsOf(stored), cursorsOf(receipts.slice(4)));
  assert.equal((await listener.until('caught_up')).cursor >= receipts[9].cursor, true);
  const live = await publish(broker.base, topic, 'live');
  assert.equal((await listener.messages(1))[0].cursor, live.cursor);
});

everywhere('after=earliest begins with the oldest', async ({ listen }) => {
  const topic = freshTopic();
  const receipts = await publishBatch(broker.base, topic, numbers(0, 5));
  const listener = await listen({ path: `/topics/${topic}`, after: 'earliest' });
  assert.deepEqual(cursorsOf(await listener.messages(5)), cursorsOf(receipts));
});

everywhere('after=latest tells nothing of what is stored', async ({ listen }) => {
  const topic = freshTopic();
  await publishBatch(broker.base, topic, numbers(0, 5));
  const listener = await listen({ path: `/topics/${topic}`, after: 'latest' });
  const live = await publish(broker.base, topic, 'live');
  assert.equal((await listener.messages(1))[0].cursor, live.cursor);
});

everywhere('last=n begins with the n newest', async ({ listen }) => {
  const topic = freshTopic();
  const receipts = await publishBatch(broker.base, topic, numbers(0, 9));
  await publishBatch(broker.base, freshTopic(), numbers(0, 9));
  const listener = await listen({ path: `/topics/${topic}`, last: 4 });
  assert.deepEqual(cursorsOf(await listener.messages(4)), cursorsOf(receipts.slice(5)));
  const live = await publish(broker.base, topic, 'live');
  assert.equal((await listener.messages(1))[0].cursor, live.cursor);
});

everywhere('last=n of a topic with fewer begins with the oldest', async ({ listen }) => {
  const topic = freshTopic();
  const receipts = await publishBatch(broker.base, topic, numbers(0, 2));
  const listener = await listen({ path: `/topics/${topic}`, last: 4 });
  assert.deepEqual(cursorsOf(await listener.messages(2)), cursorsOf(receipts));
});

/** Publishes to topics below a root, one by one. Gives where each went, and its cursor. */
async function write(root, topics) {
  const receipts = [];
  for (const topic of topics) receipts.push(await publish(broker.base, `${root}/${topic}`, topic));
  return receipts.map(({ cursor, topic }) => ({ cursor, topic }));
}

const PATTERNS = {
  '*': (name) => /^[^/]+$/.test(name),
  '**': () => true,
  '*/x': (name) => /^[^/]+\/x$/.test(name),
  'a/**': (name) => name.startsWith('a/'),
};

everywhere('a pattern hears the topics that match, stored and live, in log order', async ({ transport, listen }) => {
  for (const [pattern, matches] of Object.entries(PATTERNS)) {
    const root = freshTopic();
    const topics = ['a', 'a/x', 'b', 'a/x/y', 'b/x', 'a'];
    const matching = (written) => written.filter(({ topic }) => matches(topic.slice(root.length + 1)));
    const [first, ...stored] = await write(root, topics);
    const listener = await listen({ path: `/topics/${root}/${pattern}`, after: first.cursor });
    const heard = await listener.messages(matching(stored).length);
    await listener.until('caught_up');
    // A topic that nobody wrote to before is heard too.
    const live = await write(root, ['new', 'new/x', ...topics]);
    heard.push(...(await listener.messages(matching(live).length)));
    const expected = matching([...stored, ...live]);
    assert.deepEqual(cursorsOf(heard), cursorsOf(expected), pattern);
    if (transport.hasTopic) assert.deepEqual(heard.map(({ topic }) => topic), expected.map(({ topic }) => topic));
  }
});

everywhere('a set of topics is merged in log order, each message once', async ({ listen }) => {
  const root = freshTopic();
  const query = ['a', 'b', '*', 'c/**', 'a'].map((term) => `topic=${encodeURIComponent(`${root}/${term}`)}`).join('&');
  const lines = (topics) => topics.map((topic, index) => ({ topic: `${root}/${topic}`, data: index }));
  const write = async (topics) => {
    const answer = await postLines(`${broker.base}/stream`, lines(topics));
    assert.equal(answer.status, 201, answer.text);
    return cursorsOf(answer.json.receipts.filter(({ topic }) => !topic.includes('/no/')));
  };
  const topics = ['b', 'a', 'no/no/no', 'c/x', 'c', 'a', 'c/x/y', 'b'];
  const stored = await write(topics);
  const listener = await listen({ path: `/stream?${query}`, after: 'earliest' });
  assert.deepEqual(cursorsOf(await listener.messages(stored.length)), stored);
  const live = await write(topics);
  assert.deepEqual(cursorsOf(await listener.messages(live.length)), live);
});

/** What is published, and what the data is called by: as published, but for line breaks between tokens of JSON. */
const SHAPES = [
  { name: 'text', type: 'text/plain; charset=utf-8', body: 'plain', text: 'plain' },
  { name: 'no content type', type: undefined, body: Buffer.from('bare'), text: 'bare' },
  { name: 'a form', type: 'application/x-www-form-urlencoded', body: 'a=1&b=%20', text: 'a=1&b=%20' },
  { name: 'empty', type: 'text/plain', body: '', text: '' },
  { name: 'multibyte', type: 'text/plain', body: 'žluťoučký 日本 🦀 \u2028', text: 'žluťoučký 日本 🦀 \u2028' },
  { name: 'line breaks', type: 'text/plain', body: '\na\n\nb\n', text: '\na\n\nb\n' },
  { name: 'what looks like a block', type: 'text/plain', body: 'x\n\nid: 0\nevent: y\n: z', text: 'x\n\nid: 0\nevent: y\n: z' },
  { name: 'JSON with line breaks', type: 'application/json', body: '{\r\n"a":[1,\n"日\\n本"]\n}\n', text: '{"a":[1,"日\\n本"]}' },
  { name: 'JSON with a suffix', type: 'application/vnd.x+json', body: '[null,true]', text: '[null,true]' },
  { name: 'a JSON string', type: 'application/json', body: '"\\u0000 \\"q\\" 🦀"', text: '"\\u0000 \\"q\\" 🦀"' },
  { name: 'binary', type: 'application/octet-stream', body: Buffer.from([0, 255, 10, 13, 128]), text: '/wA=', base64: true },
  { name: 'text that is not UTF-8', type: 'text/plain', body: Buffer.from([0xff, 0xfe]), base64: true },
  { name: 'binary, empty', type: 'image/png', body: Buffer.alloc(0), base64: true },
];

everywhere('data of every shape arrives as it was published', async ({ transport, listen }) => {
  const topic = freshTopic();
  const live = await listen({ path: `/topics/${topic}`, after: 'latest' });
  for (const { type, body } of SHAPES) await publish(broker.base, topic, body, type ? { 'content-type': type } : {});
  const stored = await listen({ path: `/topics/${topic}`, after: 'earliest' });
  for (const listener of [live, stored]) {
    const messages = await listener.messages(SHAPES.length);
    for (const [index, { name, type, body, text, base64 }] of SHAPES.entries()) {
      const message = messages[index];
      const expected = base64 ? Buffer.from(body).toString('base64') : text;
      if (message.plain === undefined) {
        assert.equal(message.type, type, name);
        assert.equal(message.encoding, base64 ? 'base64' : undefined, name);
      }
      if (/json/.test(type ?? '')) assert.deepEqual(JSON.parse(textOf(message)), JSON.parse(text), name);
      else assert.equal(textOf(message), expected, `${name} by ${transport.name}`);
    }
  }
});

everywhere('a message of 1 MiB arrives whole', async ({ listen }) => {
  const topic = freshTopic();
  const live = await listen({ path: `/topics/${topic}`, after: 'latest' });
  const body = `${'0123456789abcde\n'.repeat(65_536 - 1)}0123456789abcdef`;
  assert.equal(body.length, 1 << 20);
  await publish(broker.base, topic, body);
  await publish(broker.base, topic, 'next');
  const stored = await listen({ path: `/topics/${topic}`, after: 'earliest' });
  for (const listener of [live, stored]) {
    const [large, next] = await listener.messages(2);
    assert.ok(textOf(large) === body, 'the large message differs');
    assert.equal(textOf(next), 'next');
  }
});

everywhere('a backlog of 20,000 messages is replayed', async ({ listen }) => {
  const topic = await backlog();
  const listener = await listen({ path: `/topics/${topic}`, after: 'earliest', query: { limit: 1000 } });
  const messages = await listener.messages(20_000);
  const wrong = messages.findIndex((message, index) => textOf(message) !== `{"n":${index}}`);
  assert.equal(wrong, -1, `message ${wrong}`);
  await listener.until('caught_up');
});

let backlogTopic;
/** A topic of 20,000 messages, for all transports. */
function backlog() {
  backlogTopic ??= (async () => {
    const topic = freshTopic('backlog');
    await publishBatch(broker.base, topic, numbers(0, 10_000).map((n) => ({ n })));
    await publishBatch(broker.base, topic, numbers(10_000, 20_000).map((n) => ({ n })));
    return topic;
  })();
  return backlogTopic;
}

/** Publishes flat out over several connections. Gives the cursors of all receipts. */
async function flatOut(topics, { connections, each, onCount }) {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const post = (topic, body) =>
    new Promise((resolve, reject) => {
      const options = { agent, method: 'POST', headers: { 'content-type': 'text/plain', 'content-length': body.length } };
      const sent = httpRequest(`${broker.base}/topics/${topic}`, options, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('end', () => {
          if (response.statusCode === 201) resolve(JSON.parse(Buffer.concat(chunks)).cursor);
          else reject(new Error(`status ${response.statusCode}`));
        });
      });
      sent.on('error', reject);
      sent.end(body);
    });
  let count = 0;
  const publisher = async (name) => {
    const cursors = [];
    for (let n = 0; n < each; n += 1) {
      cursors.push(await post(topics[n % topics.length], `${name}:${n}`));
      onCount((count += 1));
    }
    return cursors;
  };
  const cursors = (await Promise.all(numbers(0, connections).map(publisher))).flat();
  agent.destroy();
  return cursors.sort();
}

everywhere('no seam between stored and live: nothing is lost or doubled under load', async ({ listen }) => {
  const root = freshTopic();
  const paths = [`/topics/${root}/a`, `/topics/${root}/*`, `/stream?topic=${root}/a&topic=${root}/b`];
  const opening = [];
  const cursors = await flatOut([`${root}/a`, `${root}/b`], {
    connections: 8,
    each: 375,
    onCount: (count) => {
      // Listeners come at different times, while all publishers run.
      if (count % 300 === 0) opening.push(listen({ path: paths[(count / 300) % 3], after: 'earliest' }));
    },
  });
  assert.equal(cursors.length, 3000);
  assert.equal(new Set(cursors).size, 3000, 'a cursor was used twice');
  const listeners = await Promise.all(opening);
  assert.equal(listeners.length, 10);
  const last = await publish(broker.base, `${root}/a`, 'the end');
  for (const [index, listener] of listeners.entries()) {
    const isOneTopic = (index + 1) % 3 === 0;
    const heard = [];
    while (heard.at(-1)?.cursor !== last.cursor) heard.push(...(await listener.messages(1)));
    heard.pop();
    if (isOneTopic) assert.equal(heard.length, 1504);
    else assert.deepEqual(cursorsOf(heard), cursors);
    assert.deepEqual(cursorsOf(heard), cursorsOf(heard).sort(), 'out of order');
    // Each publisher's own messages are in the order in which it sent them.
    const newest = new Map();
    for (const message of heard) {
      const [name, n] = textOf(message).split(':');
      assert.ok(Number(n) > (newest.get(name) ?? -1), `${name}:${n} after ${newest.get(name)}`);
      newest.set(name, Number(n));
    }
  }
});

everywhere('no seam where stored messages end in the middle of a batch', async ({ listen }) => {
  const topic = freshTopic();
  const opening = [];
  const cursors = [];
  for (const round of numbers(0, 10)) {
    const publishing = publishBatch(broker.base, topic, numbers(0, 3000).map((n) => `${round}:${n}`));
    opening.push(listen({ path: `/topics/${topic}`, after: cursors.at(-1500) ?? 'earliest', query: { limit: 700 } }));
    cursors.push(...cursorsOf(await publishing));
  }
  for (const [index, opened] of opening.entries()) {
    const expected = cursors.slice(Math.max(index * 3000 - 1499, 0));
    const heard = await (await opened).messages(expected.length);
    assert.ok(expected.every((cursor, n) => heard[n].cursor === cursor), `listener ${index}`);
  }
});
