// The publisher: goes to the broker itself, over nobody's network.

import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Publishes `{"n": 0}`, `{"n": 1}`, … to all topics, evenly over this time; where it falls behind, what is due goes as
 * one batch. `before(n)` is awaited before each number is sent. Gives the time at which each was.
 */
export async function publish(base, topics, count, ms, before) {
  const sent = [];
  const began = performance.now();
  while (sent.length < count) {
    const late = performance.now() - began - (sent.length * ms) / count;
    // This is the pace; nothing is waited for.
    if (late < 0) await sleep(-late);
    const due = Math.min(count, sent.length + 1 + Math.max(0, Math.floor((late * count) / ms)));
    const lines = [];
    for (let n = sent.length; n < due; n += 1) {
      await before(n);
      for (const topic of topics) lines.push(JSON.stringify({ topic, data: { n } }));
      sent.push(Date.now());
    }
    await send(base, lines);
  }
  return sent;
}

async function send(base, lines) {
  const reply = await fetch(`${base}/stream`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: lines.join('\n'),
  });
  const text = await reply.text();
  if (reply.status !== 201) throw new Error(`a batch was not taken: ${reply.status} ${text}`);
}
