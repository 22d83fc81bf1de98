// That the suite finds what is wrong: each complaint, made by a report that deserves it and by no other.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { LATE_MS, account, complaints } from './support/verdict.mjs';

const MODE = { ends: ['stream'], tells: [/^refused$/] };
const sent = [1000, 1010, 1020, 1030];
const arrival = (n) => ({ n, at: sent[n] + 5 });

/** A report without fault, but for what is given. */
const report = (more) => ({
  began: 900,
  arrivals: [0, 1, 2, 3].map(arrival),
  events: [
    { at: 950, transport: 'stream', why: 'refused' },
    { at: 950, state: 'degraded' },
  ],
  state: 'degraded',
  ...more,
});
const found = (more, mode = {}) => complaints({ ...MODE, ...mode }, report(more), sent);

test('nothing is found where nothing is wrong', () => {
  assert.deepEqual(found({}), []);
});

test('messages: lost, doubled, out of order, late', () => {
  const order = (...numbers) => found({ arrivals: numbers.map(arrival) });
  assert.deepEqual(order(0, 2, 3), ['lost: 1']);
  assert.deepEqual(order(0, 1, 1, 2, 3), ['doubled: 1']);
  assert.deepEqual(order(0, 2, 1, 3), ['out of order: 1']);
  assert.deepEqual(order(), ['lost: 0, 1, 2, 3']);
  const last = (ms, mode) => found({ arrivals: [...[0, 1, 2].map(arrival), { n: 3, at: sent[3] + ms }] }, mode);
  assert.deepEqual(last(LATE_MS), []);
  assert.deepEqual(last(LATE_MS + 1), ['the last message came 10001 ms after its publish']);
  assert.deepEqual(last(LATE_MS + 1, { within_ms: LATE_MS + 1 }), []);
});

test('transports: a wrong end, a wrong reason, a reason that is not true, a place where it never was', () => {
  const went = (at, from, transport, why) => found({ events: [...report().events, { at, from, transport, why }] });
  assert.deepEqual(went(2000, 'stream', 'poll', 'refused'), ['it ended on poll, not on stream']);
  const no_reason = (why) => [`it went to stream for a reason that is none here: ${why}`];
  assert.deepEqual(went(2000, 'stream', 'stream', 'magic'), no_reason('magic'));
  assert.deepEqual(went(2000, 'poll', 'stream', 'it answers again'), ['it left poll, on which it never was']);
  const slow = 'stream took more than 1 s to open';
  assert.deepEqual(went(1900, 'stream', 'stream', slow), []);
  assert.deepEqual(went(1899, 'stream', 'stream', slow), no_reason(slow));
  assert.deepEqual(found({ events: [] }), ['it ended on undefined, not on stream']);
});

test('transports: who is blamed is who was left, at first a transport above, and never where it went', () => {
  const went = (from, transport, why) => {
    const events = [...(from ? [{ at: 950, transport: from, why: 'refused' }] : []), { at: 9000, from, transport, why }];
    return found({ events }, { ends: [transport], tells: [/./] }).filter((complaint) => complaint.includes('blamed'));
  };
  const cut = (transport) => `${transport} was lost: cut`;
  assert.deepEqual(went('websocket', 'long-poll', cut('websocket')), []);
  assert.deepEqual(went('websocket', 'long-poll', cut('stream')), ['it went from websocket to long-poll and blamed stream: stream was lost: cut']);
  assert.deepEqual(went(undefined, 'long-poll', cut('stream')), []);
  assert.deepEqual(went(undefined, 'stream', cut('stream')), ['it went from undefined to stream and blamed stream: stream was lost: cut']);
  assert.deepEqual(went(undefined, 'poll', cut('long-poll')), []);
});

test('states: one that is not so, a loss that was not told, a gap, an error', () => {
  const said = (event, mode) => found({ events: [...report().events, { at: 2000, ...event }] }, mode);
  assert.deepEqual(said({ state: 'live' }), ['it said live on stream']);
  assert.deepEqual(said({ state: 'offline' }), ['it said offline on stream']);
  assert.deepEqual(said({ gap: 'deleted' }), ['it told a gap: deleted']);
  assert.deepEqual(said({ error: 'no' }), ['it failed: no']);
  assert.deepEqual(said({ state: 'connecting' }, { breaks: true }), []);
  assert.deepEqual(found({}, { breaks: true }), ['it never said that its connection was lost']);
});

test('an account has all that was said, by the time since the first publish', () => {
  assert.deepEqual(account(report(), sent).split('\n'), [
    '     -50 ms {"transport":"stream","why":"refused"}',
    '     -50 ms {"state":"degraded"}',
    '  at the end degraded',
  ]);
});
