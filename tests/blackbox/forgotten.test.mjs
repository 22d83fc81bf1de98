// A topic that holds nothing is forgotten after a while: it makes room for others, and no cursor passes over that in silence.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Broker, eventually } from './support/broker.mjs';
import { CURSOR, assertProblem, publish, remove, request } from './support/http.mjs';
import { TRANSPORTS, open, textOf } from './support/transports.mjs';

const MAX = 50;
const numbers = (count) => Array.from({ length: count }, (_, index) => index);

const topicsOf = async (base) => (await request(`${base}/topics?limit=1000`)).json.topics.map(({ topic }) => topic);

describe('topics that hold nothing', () => {
  let broker;
  before(async () => {
    broker = await Broker.start({ args: ['--max-topics', String(MAX), '--forget-topics-after', '1s'] });
  });
  after(() => broker.stop());

  /** Fills the broker with topics, and empties them again. Answers their receipts. */
  async function comeAndGo(round) {
    const names = numbers(MAX - 1).map((number) => `${round}/${number}`);
    const receipts = [];
    for (const name of names) receipts.push(await publish(broker.base, name, 'x'));
    const refused = await request(`${broker.base}/topics/one-more`, { method: 'POST', body: 'x' });
    assertProblem(refused, 429, 'topics-too-many');
    for (const name of names) await remove(broker.base, name);
    return receipts;
  }

  const forgotten = (round) =>
    eventually(
      async () => !(await topicsOf(broker.base)).some((name) => name.startsWith(`${round}/`)),
      `the topics of ${round} are not forgotten`,
    );

  let receipts;

  test('are forgotten, and count no more', async () => {
    await publish(broker.base, 'stays', 'first');
    receipts = await comeAndGo('a');
    await forgotten('a');
    assert.deepEqual(await topicsOf(broker.base), ['stays']);
    const metrics = await (await fetch(`${broker.base}/metrics`)).text();
    if (metrics.includes('tailwire_log_topics')) assert.match(metrics, /^tailwire_log_topics 1$/m);
    await comeAndGo('b');
  });

  test('are forgotten over a crash at any time', async () => {
    for (const round of ['c', 'd', 'e']) {
      await broker.crash();
      await forgotten(round === 'c' ? 'b' : String.fromCharCode(round.charCodeAt(0) - 1));
      await comeAndGo(round);
    }
    await broker.restart();
    await forgotten('e');
    assert.deepEqual(await topicsOf(broker.base), ['stays']);
  });

  test('have no newest message any more', async () => {
    const [first] = receipts;
    const url = `${broker.base}/topics/a/0`;
    const post = (headers) => request(url, { method: 'POST', body: 'again', headers });
    assert.equal((await post({ 'if-none-match': '*' })).status, 201);
    assert.equal((await post({ 'if-none-match': '*' })).status, 412);
    const expected = await request(`${broker.base}/topics/a/1`, {
      method: 'POST',
      body: 'again',
      headers: { 'if-match': `"${first.cursor}"` },
    });
    assert.equal(expected.status, 201);
  });

  for (const transport of TRANSPORTS) {
    const listen = (t, where) => open(t, transport, { base: broker.base, ...where });

    test(`a cursor from before is told a gap: ${transport.name}`, async (t) => {
      const first = receipts[0].cursor;
      for (const path of ['/topics/a/7', '/topics/never', '/topics/a/*', '/stream?topic=stays&topic=a/9']) {
        const listener = await listen(t, { path, after: first });
        const gap = await listener.until('message', 'gap');
        assert.deepEqual([gap.kind, gap.from, gap.reason], ['gap', first, 'retention'], path);
        assert.match(gap.to, CURSOR);
        listener.close();
      }
    });

    test(`a cursor at the end is told none, and a topic that is known has none: ${transport.name}`, async (t) => {
      const mark = await publish(broker.base, 'stays', 'mark');
      const name = `new/${transport.name.replaceAll(/\W+/g, '-')}`;
      const listener = await listen(t, { path: `/topics/${name}`, after: mark.cursor });
      const next = await publish(broker.base, name, 'next');
      const [message] = await listener.messages(1);
      assert.equal(message.cursor, next.cursor);
      listener.close();
      const known = await listen(t, { path: '/topics/stays', after: receipts[0].cursor });
      const item = await known.until('message', 'gap');
      assert.deepEqual([item.kind, textOf(item)], ['message', 'mark']);
      known.close();
      // Room for the others.
      await remove(broker.base, name);
    });
  }
});
