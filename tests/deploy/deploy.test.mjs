// The broker behind the proxies that docs/DEPLOY.md has configurations for: every transport of the client goes through, the
// client's address is known, and nobody can say another. Behind a cache two users never see each other's messages.

import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { after, before, describe, test } from 'node:test';

import { WebSocket } from 'ws';

import { connect } from '../../clients/js/dist/tailwire.mjs';
import { configured, eventually } from '../blackbox/support/broker.mjs';
import { freshTopic, publish, requestBy } from '../blackbox/support/http.mjs';
import { as, granting, SECTION, token } from '../blackbox/support/tokens.mjs';
import { passing, PROXIES, varnish } from './proxies.mjs';

/** Every one of the client's ways. */
const LADDER = ['websocket', 'stream', 'long-poll', 'poll'];
/** An address of this machine that is no proxy's. */
const CLIENT = '127.0.0.9';

/** A broker that logs each request. */
async function started(t, settings, more) {
  const broker = await configured(t, `log_format = "json"\naccess_log = true\n${settings}`, more);
  /** Lines of the access log for a path. */
  broker.logged = (target) =>
    broker.stderr.split('\n').filter((line) => line.includes('tailwire_access_log') && line.includes(target)).map((line) => JSON.parse(line));
  return broker;
}

/** A request from an address of its own. */
const from = (localAddress, port, target, headers = {}) =>
  requestBy({ port, host: '127.0.0.1', localAddress, path: target, headers, agent: new Agent({ keepAlive: false }) });

for (const [name, start] of Object.entries(PROXIES)) {
  describe(name, () => {
    let broker;
    let port;
    const ends = [];
    before(async () => {
      const t = { after: (end) => ends.unshift(end) };
      broker = await started(t, 'listen = "127.0.0.1:0"\ntrusted_proxies = ["127.0.0.1"]\n');
      port = await start(t, broker.port);
    });
    after(async () => {
      for (const end of ends) await end();
    });

    for (const transport of LADDER) {
      test(`passes ${transport} on`, async (t) => {
        const topic = freshTopic();
        const hub = connect(`http://127.0.0.1:${port}/`, { transports: [transport], WebSocket });
        t.after(() => hub.close());
        const why = [];
        hub.on('failure', (failure) => why.push(failure));
        const subscription = hub.subscribe(topic, { after: 'earliest' });
        const heard = [];
        const listening = (async () => {
          for await (const message of subscription) if (heard.push(message.data.n) === 3) return;
        })();
        await hub.publish(topic, { n: 0 });
        await eventually(() => heard.length === 1, 'the first is not heard');
        // What comes while the client waits.
        await publish(broker.base, topic, '{"n":1}', { 'content-type': 'application/json' });
        await hub.publish(topic, { n: 2 });
        await listening;
        assert.deepEqual(heard, [0, 1, 2], JSON.stringify(why));
      });
    }

    test('says whose a request is, and nobody else can', async () => {
      const topic = freshTopic();
      const spoofed = { 'x-forwarded-for': '6.6.6.6', forwarded: 'for=6.6.6.6;proto=https', 'x-real-ip': '6.6.6.6' };
      assert.equal((await from(CLIENT, port, `/topics/${topic}`, spoofed)).status, 202);
      const [line] = await eventually(() => broker.logged(topic).length > 0 && broker.logged(topic), 'no line');
      assert.deepEqual([line.client, line.status, line.method], [CLIENT, 202, 'GET']);
    });
  });
}

describe('HAProxy that passes bytes on', () => {
  test('says whose they are by the PROXY protocol', async (t) => {
    const broker = await started(t, 'listen = [{ address = "127.0.0.1:0", proxy_protocol = true }]\n', { ready: false });
    const port = await passing(t, broker.port);
    const topic = freshTopic();
    assert.equal((await from(CLIENT, port, `/topics/${topic}`, { 'x-forwarded-for': '6.6.6.6' })).status, 202);
    const [line] = await eventually(() => broker.logged(topic).length > 0 && broker.logged(topic), 'no line');
    assert.equal(line.client, CLIENT);
  });
});

describe('varnish', () => {
  test('never gives one user what another has', async (t) => {
    const broker = await started(t, `listen = "127.0.0.1:0"\n${SECTION}`);
    const port = await varnish(t, broker.port);
    const users = ['alice', 'bob'];
    for (const user of users) {
      for (let n = 0; n < 12; n += 1) {
        const headers = { ...as(token({ sub: user })), 'content-type': 'text/plain', origin: broker.base };
        await publish(broker.base, `users/${user}/private`, `${user}'s ${n}`, headers);
      }
    }
    const cookie = (user) => ({ cookie: `__Host-tailwire=${token({ sub: user })}` });
    const first = JSON.parse((await from(CLIENT, broker.port, '/topics/users/alice/private', as(token()))).text).messages[0].cursor;
    const targets = [
      '/topics/users/*/private',
      '/topics/**?limit=5',
      `/topics/users/alice/private?after=${first}&limit=5`,
      '/topics/users/alice/private?format=raw',
      '/topics/users/alice/private?format=atom',
      `/messages/${first}`,
      '/topics',
      '/stream?topic=users/*/private&format=jsonfeed',
    ];
    // The answer to the user who asks first is given to nobody who asks later.
    for (const target of targets) {
      for (const order of [users, [...users].reverse()]) {
        for (const user of [...order, undefined]) {
          for (const headers of user ? [as(token({ sub: user })), cookie(user)] : [{}]) {
            const { status, text } = await from(CLIENT, port, target, headers);
            for (const other of users.filter((own) => own !== user)) {
              assert.ok(!text.includes(`${other}'s`), `${user ?? 'anonymous'} sees ${other}'s at ${target} (${status})`);
              assert.notEqual(/users\/(\w+)\/private/.exec(status === 200 ? text : '')?.[1], other, target);
            }
            if (!user) assert.equal(status === 401 || !text.includes("'s"), true, `${target}: ${status}`);
          }
        }
      }
    }
    // It stores what is for everybody: an answer from its store names two requests, this one and the one that it was made for.
    const writer = { ...as(granting({ publish: ['public/news'] })), 'content-type': 'text/plain' };
    const { cursor } = await publish(broker.base, 'public/news', '0', writer);
    for (const body of ['1', '2']) await publish(broker.base, 'public/news', body, writer);
    const page = `/topics/public/news?after=${cursor}&limit=1`;
    const [made, stored] = [await from(CLIENT, port, page), await from(CLIENT, port, page)];
    assert.deepEqual([made.status, stored.status], [200, 200]);
    assert.match(stored.headers['x-varnish'], /^\d+ \d+$/);
  });
});
