// Clients of Server-Sent Events that others wrote, each as its users have it: no event is empty, none is lost where the
// connection drops before the first message, and each comes once.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventSource } from 'eventsource';
import { createEventSource } from 'eventsource-client';
import polyfill from 'event-source-polyfill';

import { Broker, deadline } from '../blackbox/support/broker.mjs';
import { freshTopic, publish } from '../blackbox/support/http.mjs';

// What this one takes for granted of a browser.
globalThis.window ??= globalThis;
globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = await import('@microsoft/fetch-event-source');

/** Each client opens a URL, calls `heard` with the data of every unnamed event, and gives what closes it. */
const CLIENTS = {
  eventsource(url, heard) {
    const source = new EventSource(url);
    source.onmessage = ({ data }) => heard(data);
    return () => source.close();
  },
  'event-source-polyfill'(url, heard) {
    const source = new polyfill.EventSourcePolyfill(url, { heartbeatTimeout: 60_000 });
    source.onmessage = ({ data }) => heard(data);
    return () => source.close();
  },
  'eventsource-client'(url, heard) {
    const source = createEventSource({ url, onMessage: ({ event, data }) => event?.startsWith('tailwire.') || heard(data) });
    return () => source.close();
  },
  '@microsoft/fetch-event-source'(url, heard) {
    const end = new AbortController();
    fetchEventSource(url, {
      signal: end.signal,
      openWhenHidden: true,
      onopen: async (response) => assert.equal(response.status, 200),
      onmessage: ({ event, data }) => event.startsWith('tailwire.') || heard(data),
      // It ends where the server does; its users throw to come back.
      onclose() {
        throw new Error('come back');
      },
      onerror: () => 200,
    });
    return () => end.abort();
  },
};

for (const [name, open] of Object.entries(CLIENTS)) {
  test(`${name} hears each message once, over a drop before the first`, async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    const topic = freshTopic();
    const all = [];
    let wake = () => {};
    const until = async (count) => {
      const late = deadline(`${name} heard ${JSON.stringify(all)} only`);
      while (all.length < count) await Promise.race([new Promise((resolve) => (wake = resolve)), late]);
      late.cancel();
    };
    const close = open(`${broker.base}/topics/${topic}`, (data) => wake(all.push(data)));
    t.after(close);
    await opened(broker);
    // Nothing was said but the opening; while the client is away there is a message, which it finds by that.
    await broker.restart({ samePort: true });
    await publish(broker.base, topic, 'one');
    await until(1);
    await publish(broker.base, topic, '{"n":2}', { 'content-type': 'application/json' });
    await publish(broker.base, topic, 'three\nlines\n');
    await until(3);
    assert.deepEqual(all, ['one', '{"n":2}', 'three\nlines\n']);
  });
}

/** Waits until a stream has caught up: its connection is counted, and its opening written. */
async function opened(broker) {
  const late = deadline('no stream is open');
  for (;;) {
    const metrics = await broker.metrics();
    const written = /tailwire_sent_bytes_total\{transport="sse"\} (\d+)/.exec(metrics);
    if (Number(written?.[1] ?? 0) > 0) return late.cancel();
    await Promise.race([new Promise(setImmediate), late]);
  }
}
