// What is wrong with how a subscriber fared: every message once and in order, the last in time, and nothing said that
// isn't so. Pure.

/** The last message has to come within this time of its publish, unless the mode says otherwise. */
export const LATE_MS = 10_000;
/** How the client says that something opened slowly, and how slowly that has to be. */
const SLOW = / took more than 1 s to open$/;
const SLOW_MS = 1_000;
const TRANSPORTS = ['websocket', 'stream', 'long-poll', 'poll'];
/** Numbers that a complaint lists; the rest it counts. */
const LISTED_MAX = 20;

/** `sent` has the time of each message's publish; `report` is a follower's. No complaints is an empty list. */
export function complaints(mode, report, sent) {
  return [...ofMessages(report, mode, sent), ...ofTransports(report, mode), ...ofStates(report, mode)];
}

/** All that was said, with times since the first publish: what a complaint is to be read with. */
export function account({ events, state }, sent) {
  const lines = events.map(({ at, ...event }) => `  ${String(at - sent[0]).padStart(6)} ms ${JSON.stringify(event)}`);
  return [...lines, `  at the end ${state}`].join('\n');
}

/** How long messages took, in words. */
export function delays({ arrivals }, sent) {
  const took = arrivals.map(({ n, at }) => at - sent[n]);
  if (!took.length) return 'no message came';
  return `the last message took ${took.at(-1)} ms, the slowest ${Math.max(...took)} ms`;
}

function* ofMessages({ arrivals }, { within_ms = LATE_MS }, sent) {
  const numbers = arrivals.map(({ n }) => n);
  const seen = new Set(numbers);
  const lost = sent.map((_, n) => n).filter((n) => !seen.has(n));
  const doubled = numbers.filter((n, i) => numbers.indexOf(n) < i);
  const early = numbers.filter((n, i) => i > 0 && n < numbers[i - 1]);
  if (lost.length) yield `lost: ${list(lost)}`;
  if (doubled.length) yield `doubled: ${list(doubled)}`;
  if (early.length) yield `out of order: ${list(early)}`;
  const last = arrivals.find(({ n }) => n === sent.length - 1);
  const ms = last && last.at - sent.at(-1);
  if (ms > within_ms) yield `the last message came ${ms} ms after its publish`;
}

function* ofTransports({ began, events }, { ends, tells }) {
  let current;
  let lost_at = began;
  for (const { at, state, from, transport, why } of events) {
    if (state === 'connecting') lost_at = at;
    if (!transport) continue;
    if (from !== current) yield `it left ${from}, on which it never was`;
    current = transport;
    const up = TRANSPORTS.indexOf(transport) < TRANSPORTS.indexOf(from);
    const reasons = up ? [/^it answers again$/] : tells;
    // That may be the machine's fault, on any network. It has to be true.
    const slow = SLOW.test(why) && at - lost_at >= SLOW_MS;
    const true_here = slow || reasons.some((reason) => reason.test(why));
    if (!true_here) yield `it went to ${current} for a reason that is none here: ${why}`;
    // At first nothing is left, and what went wrong is that of a transport above.
    const named = TRANSPORTS.find((name) => why.startsWith(name));
    const guilty = from === undefined ? TRANSPORTS.indexOf(named) < TRANSPORTS.indexOf(transport) : named === from;
    if (named && !guilty) yield `it went from ${from} to ${current} and blamed ${named}: ${why}`;
  }
  if (!ends.includes(current)) yield `it ended on ${current}, not on ${ends.join(' or ')}`;
}

function* ofStates({ events }, { breaks }) {
  let current;
  for (const { transport, state, gap, error } of events) {
    current = transport ?? current;
    const right = ['connecting', current === TRANSPORTS[0] ? 'live' : 'degraded'];
    if (state && !right.includes(state)) yield `it said ${state} on ${current}`;
    if (gap) yield `it told a gap: ${gap}`;
    if (error) yield `it failed: ${error}`;
  }
  // It begins as `connecting`, so that is told only when a connection was lost.
  if (breaks && !events.some(({ state }) => state === 'connecting')) yield 'it never said that its connection was lost';
}

function list(numbers) {
  const more = numbers.length - LISTED_MAX;
  return numbers.slice(0, LISTED_MAX).join(', ') + (more > 0 ? `, and ${more} more` : '');
}
