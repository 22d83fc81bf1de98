// SSE and NDJSON to the byte, and how streams begin and end.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { EventSource } from 'eventsource';

import { Broker, deadline, eventually } from './support/broker.mjs';
import { CURSOR, curl, freshTopic, publish, publishBatch, request } from './support/http.mjs';
import { Raw } from './support/raw.mjs';

let broker;
before(async () => (broker = await Broker.start()));
after(() => broker.stop());

const numbers = (count) => Array.from({ length: count }, (_, index) => index);

const get = (path, headers = {}, version = '1.1') =>
  `GET ${path} HTTP/${version}\r\nHost: localhost\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;

/** Opens a stream by hand; HTTP/1.0, so that its bytes are those of the format. */
async function stream(t, path, headers, own = broker) {
  const raw = await Raw.open(t, own.port);
  await raw.send(get(path, headers, '1.0'));
  const [head] = await raw.until(/^[\s\S]*?\r\n\r\n/);
  Object.defineProperty(raw, 'body', { get: () => raw.text.slice(head.length) });
  const untilBody = (text) => raw.until(() => raw.body.includes(text));
  return Object.assign(raw, { head: head.toLowerCase(), untilBody });
}

describe('server-sent events', () => {
  test('open with retry and the starting cursor, in an event of its own', async (t) => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'x');
    const sse = await stream(t, `/topics/${topic}?after=${cursor}`, { accept: 'text/event-stream' });
    await sse.untilBody('tailwire.caught_up');
    assert.match(sse.head, /^http\/1\.[01] 200 /);
    assert.match(sse.head, /content-type: text\/event-stream/);
    assert.match(sse.head, /cache-control: no-store/);
    assert.match(sse.head, new RegExp(`tailwire-cursor: ${cursor}`));
    assert.match(sse.body, new RegExp(`^retry: [1-9][0-9]+\nid: ${cursor}\nevent: tailwire.open\ndata: {"kind":"heartbeat","cursor":"${cursor}"}\n\n`));
  });

  test('a message is id, event and data as published, line by line', async (t) => {
    const topic = freshTopic();
    const sse = await stream(t, `/topics/${topic}?format=sse&after=latest`);
    const a = await publish(broker.base, topic, 'a\n\nb: ž\n');
    const b = await publish(broker.base, `${topic}?event=tick.1`, '{"n":\n1.0}', { 'content-type': 'application/json' });
    const c = await publish(broker.base, topic, '');
    await sse.untilBody(c.cursor);
    await sse.untilBody('data: \n\n');
    const blocks = sse.body.slice(sse.body.indexOf(`id: ${a.cursor}`));
    assert.equal(
      blocks,
      `id: ${a.cursor}\ndata: a\ndata: \ndata: b: ž\ndata: \n\n` +
        `id: ${b.cursor}\nevent: tick.1\ndata: {"n":1.0}\n\n` +
        `id: ${c.cursor}\ndata: \n\n`,
    );
  });

  test('caught_up is an event with the cursor as id; a gap has none', async (t) => {
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(3));
    await request(`${broker.base}/topics/${topic}`, { method: 'DELETE' });
    const sse = await stream(t, `/topics/${topic}?format=sse&after=${receipts[0].cursor}`);
    await sse.untilBody('event: tailwire.caught_up');
    await sse.untilBody('"kind":"caught_up"');
    const gap = { kind: 'gap', from: receipts[0].cursor, to: receipts[2].cursor, reason: 'deleted' };
    assert.ok(sse.body.includes(`\nevent: tailwire.gap\ndata: ${JSON.stringify(gap)}\n\n`), sse.body);
    assert.match(sse.body, /id: ([0-9a-v]{8}-[0-9a-v]{11})\nevent: tailwire\.caught_up\ndata: \{"kind":"caught_up","cursor":"\1"\}\n/);
  });

  test('an envelope has the whole line in data', async (t) => {
    const topic = freshTopic();
    const sse = await stream(t, `/topics/${topic}?format=sse&envelope=true`);
    const receipt = await publish(broker.base, `${topic}?event=e`, 'a\nb');
    await sse.untilBody(`id: ${receipt.cursor}\n`);
    const line = { kind: 'message', ...receipt, type: 'text/plain', event: 'e', data: 'a\nb' };
    await sse.untilBody(`"data":"a\\nb"}`);
    const [, data] = new RegExp(`id: ${receipt.cursor}\ndata: (.*)\n`).exec(sse.body);
    assert.deepEqual(JSON.parse(data), line);
  });

  test('Last-Event-ID wins over the query, for SSE only', async (t) => {
    const topic = freshTopic();
    const receipts = await publishBatch(broker.base, topic, numbers(4));
    const headers = { 'last-event-id': receipts[2].cursor };
    const sse = await stream(t, `/topics/${topic}?format=sse&after=${receipts[0].cursor}`, headers);
    await sse.untilBody('caught_up');
    assert.ok(!sse.body.includes(receipts[1].cursor));
    assert.ok(sse.body.includes(`id: ${receipts[3].cursor}\ndata: 3`));
    const ndjson = await stream(t, `/topics/${topic}?format=ndjson&after=${receipts[0].cursor}`, headers);
    await ndjson.untilBody('"data":3');
    assert.ok(ndjson.body.includes(receipts[1].cursor));
  });

  test("a client's EventSource comes back by itself after a restart, and gets each message once", async (t) => {
    const own = await Broker.start();
    t.after(() => own.stop());
    const topic = freshTopic();
    const source = new EventSource(`${own.base}/topics/${topic}`);
    t.after(() => source.close());
    const heard = [];
    let wake = () => {};
    const until = async (count) => {
      const late = deadline(`heard ${heard} only`);
      while (heard.length < count) await Promise.race([new Promise((resolve) => (wake = resolve)), late]);
      late.cancel();
    };
    source.onmessage = ({ data }) => wake(heard.push(data));
    const bye = new Promise((resolve) => source.addEventListener('tailwire.bye', ({ data }) => resolve(JSON.parse(data))));
    await new Promise((resolve) => source.addEventListener('open', resolve, { once: true }));
    await publish(own.base, topic, 'one');
    await until(1);
    await own.restart({ samePort: true });
    assert.deepEqual([(await bye).kind, (await bye).reason], ['bye', 'drain']);
    await publish(own.base, topic, 'two');
    await until(2);
    await publish(own.base, topic, 'three');
    await until(3);
    assert.deepEqual(heard, ['one', 'two', 'three']);
  });
});

describe('NDJSON', () => {
  test('one object a line; the first is a heartbeat with the starting cursor', async (t) => {
    const topic = freshTopic();
    const stored = await publish(broker.base, topic, 'a\nb');
    const ndjson = await stream(t, `/topics/${topic}?after=earliest`, { accept: 'application/x-ndjson' });
    await ndjson.untilBody('caught_up"');
    await ndjson.until(/\}\n$/);
    assert.match(ndjson.head, /content-type: application\/x-ndjson/);
    const lines = ndjson.body.trimEnd().split('\n').map((line) => JSON.parse(line));
    assert.equal(lines[0].kind, 'heartbeat');
    assert.match(lines[0].cursor, CURSOR);
    assert.deepEqual(lines[1], { kind: 'message', ...stored, type: 'text/plain', data: 'a\nb' });
    assert.deepEqual(lines[2], { kind: 'caught_up', cursor: stored.cursor });
  });

  test('JSON data is kept byte for byte, but for line breaks between tokens', async (t) => {
    const topic = freshTopic();
    const ndjson = await stream(t, `/topics/${topic}?format=ndjson`);
    const body = '{ "b" : 1.50e3,\r\n"a":\t"\\u00e9\\/ é" ,\n"b":10000000000000000000000 }';
    await publish(broker.base, topic, body, { 'content-type': 'application/json' });
    await ndjson.untilBody(`"data":${body.replaceAll(/[\r\n]/g, '')}}\n`);
  });
});

describe('streams over every version of HTTP', () => {
  for (const format of ['sse', 'ndjson']) {
    test(`HTTP/1.0 gets no chunks, HTTP/1.1 gets them: ${format}`, async (t) => {
      const topic = freshTopic();
      const path = `/topics/${topic}?format=${format}&after=latest`;
      const old = await stream(t, path);
      assert.ok(!old.head.includes('transfer-encoding'), old.head);
      const current = await Raw.open(t, broker.port);
      await current.send(get(path));
      await current.until(/transfer-encoding: chunked\r\n[\s\S]*?\r\n\r\n[0-9a-f]+\r\n/i);
      await publish(broker.base, topic, 'unmistakable');
      for (const raw of [old, current]) await raw.until(/unmistakable/);
      assert.ok(!/^[0-9a-f]+\r$/m.test(old.body), old.body);
    });

    test(`HTTP/2 by prior knowledge: ${format}`, async () => {
      const topic = freshTopic();
      const stored = await publish(broker.base, topic, 'over HTTP/2');
      const url = `${broker.base}/topics/${topic}?format=${format}&after=earliest`;
      const text = await new Promise((resolve, reject) => {
        import('node:http2').then(({ connect }) => {
          const session = connect(broker.base);
          session.on('error', reject);
          const sent = session.request({ ':path': url.slice(broker.base.length) });
          let heard = '';
          sent.setEncoding('utf8');
          sent.on('error', reject);
          sent.on('data', (chunk) => {
            heard += chunk;
            if (!/caught_up"/.test(heard)) return;
            resolve(heard);
            session.destroy();
          });
        }, reject);
      });
      assert.ok(text.includes(stored.cursor) && text.includes('over HTTP/2'), text);
    });
  }

  test('curl reads a page over HTTP/2', async () => {
    const topic = freshTopic();
    await publish(broker.base, topic, 'by curl');
    const text = await curl('--http2-prior-knowledge', '--include', `${broker.base}/topics/${topic}`);
    assert.match(text, /^HTTP\/2 200/);
    assert.match(text, /by curl/);
  });

  test('HEAD of a stream is answered at once, without a body', async (t) => {
    const topic = freshTopic();
    const { cursor } = await publish(broker.base, topic, 'x');
    for (const [format, type] of [['sse', 'text/event-stream'], ['ndjson', 'application/x-ndjson']]) {
      const head = await request(`${broker.base}/topics/${topic}?format=${format}`, { method: 'HEAD' });
      assert.deepEqual([head.status, head.headers.get('content-type'), head.text], [200, type, '']);
      assert.equal(head.headers.get('tailwire-cursor') >= cursor, true);
    }
  });

  for (const format of ['sse', 'ndjson']) {
    test(`requests that are pipelined before a stream are answered first, whole: ${format}`, async (t) => {
      const topic = freshTopic();
      const body = 'x'.repeat(300_000);
      await publish(broker.base, topic, body);
      const raw = await Raw.open(t, broker.port);
      const post = `POST /topics/${topic}/other HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi`;
      await raw.send(get(`/topics/${topic}`) + post + get('/healthz') + get(`/topics/${topic}?format=${format}&after=latest`));
      await raw.until(new RegExp(`content-type: (text/event-stream|application/x-ndjson)[\\s\\S]*caught_up`));
      const statuses = raw.text.match(/HTTP\/1\.1 (\d+) /g);
      assert.deepEqual(statuses, ['HTTP/1.1 200 ', 'HTTP/1.1 201 ', 'HTTP/1.1 200 ', 'HTTP/1.1 200 ']);
      assert.ok(raw.text.includes(body), 'the page is cut');
      await publish(broker.base, topic, 'live at last');
      await raw.until(/live at last/);
    });
  }

  test('a client that goes away is let go', async (t) => {
    const own = await Broker.start();
    t.after(() => own.stop());
    const before = await own.descriptors();
    const streams = await Promise.all(numbers(50).map(() => stream(t, '/topics/a?format=sse', {}, own)));
    assert.ok((await own.descriptors()) >= before + 50);
    for (const one of streams) one.close();
    await publish(own.base, 'a', 'x');
    await eventually(async () => (await own.descriptors()) < before + 10, 'descriptors are kept');
  });
});
