// The built JavaScript client over hostile networks: in each, what is published reaches it once, in order and in time,
// and what it says of its way there is true. In Chromium and in Node, over a fault proxy and over a real nginx.
//
// All networks stand between one broker and one subscriber of each kind, at the same time: 2,000 messages go to each
// topic within 20 s, past the networks, while the subscribers are still looking for a way.
//
// The broker is $BROKER, the proxy $PROXY; Chromium is $CHROMIUM and nginx $NGINX, or where Debian puts them. Without
// one of them the tests fail; they are not skipped.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Broker, deadline } from '../blackbox/support/broker.mjs';
import { LOSSY, MODES } from './modes.mjs';
import { Chromium, Node } from './support/followers.mjs';
import { Nginx } from './support/nginx.mjs';
import { Proxy } from './support/proxy.mjs';
import { publish } from './support/publisher.mjs';
import { LATE_MS, account, complaints, delays } from './support/verdict.mjs';

const COUNT = 2_000;
const PUBLISHING_MS = 20_000;
/** For those that are late: a complaint that says by how much is worth more than one that says "lost". */
const PATIENCE_MS = 3 * LATE_MS;
const BEGIN_EACH_MS = 100;
const CLIENTS = ['Chromium', 'Node'];

/** When each message was published. */
let sent;
/** By network and client. */
const reports = new Map();

before(async () => {
  // Stopped in the end, the last first; here, as node:test runs no `after` where `before` has failed.
  const running = [];
  const started = async (starting) => {
    running.unshift(await starting);
    return running[0];
  };
  try {
    await run(started);
  } finally {
    for (const thing of running) await thing.stop();
  }
});

async function run(started) {
  const chromium = await started(Chromium.start());
  const broker = await started(Broker.start({ args: ['--allow-origin', chromium.origin] }));
  const nginx = await started(Nginx.before(broker.port));
  const proxy = await started(new Proxy(broker.port));

  const networks = [...MODES, LOSSY].map((mode, i) => ({ mode, topic: `fallback/${i}` }));
  const followers = [];
  for (const network of networks) {
    const { mode } = network;
    network.port = mode.nginx ? nginx.ports[mode.nginx] : await proxy.open(mode.faults[0]);
    for (const client of [chromium, new Node()]) followers.push({ network, client });
  }
  await Promise.all(followers.map(async (follower) => (follower.place = await follower.client.place())));

  const complete = [];
  for (const { network, place } of followers) {
    const following = place.follow(`http://127.0.0.1:${network.port}/`, network.topic, COUNT - 1);
    // Who breaks off has a report all the same, or fails to give one.
    complete.push(following.catch(() => {}));
    // A pace: if all began in one moment, the machine would be what stands in their way.
    await sleep(BEGIN_EACH_MS);
  }
  const turn = async (n) => {
    if (n === 0) return;
    for (const { mode, port } of networks) if (mode.faults?.[n] !== undefined) await proxy.turn(port, mode.faults[n]);
    const changed = followers.filter(({ network }) => network.mode.changes?.includes(n));
    await Promise.all(changed.map(({ place }) => place.changed()));
  };
  sent = await publish(broker.base, networks.map(({ topic }) => topic), COUNT, PUBLISHING_MS, turn);

  const late = deadline('not all are complete', PATIENCE_MS);
  // So does who isn't complete by then.
  await Promise.race([Promise.all(complete), late]).catch(() => {});
  late.cancel();
  for (const { network, client, place } of followers) {
    reports.set(`${network.mode.name} ${client.name}`, await place.report());
    await place.close();
  }
}

for (const client of CLIENTS) {
  describe(`${client}, on a network that`, () => {
    for (const mode of MODES) {
      test(mode.name, (t) => {
        const report = reports.get(`${mode.name} ${client}`);
        t.diagnostic(`${client}: ${delays(report, sent)}`);
        const wrong = complaints(mode, report, sent);
        const where = `${client}, on a network that ${mode.name}`;
        if (wrong.length) assert.fail(`${where}: ${wrong.join('; ')}\n${account(report, sent)}`);
      });
    }

    test(`${LOSSY.name} is found out`, () => {
      const report = reports.get(`${LOSSY.name} ${client}`);
      assert.deepEqual(complaints(LOSSY, report, sent), ['lost: 1234'], account(report, sent));
    });
  });
}
