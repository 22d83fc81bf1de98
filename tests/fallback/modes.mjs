// The networks of the suite: what each does to what passes, and what the client has to make of it.
//
// | member | |
// | --- | --- |
// | `name` | what it does, as in "a network that …" |
// | `faults` | by the message before which they begin, 100 a second; the words are those of tests/src/bin/proxy/mode.rs |
// | `nginx` | instead: the server of support/nginx.mjs |
// | `changes` | the messages before which the system says that the network is another one |
// | `ends` | the transports that may carry at the end: all that work, as far as a client can tell while messages flow |
// | `tells` | the reasons that the client may give when it begins or goes down, beside that something took too long |
// | `within_ms` | the bound on the last message, where it isn't 10 s |
// | `breaks` | the connection is lost, and the client has to say so |
//
// The last message has to come within 10 s of its publish. Some networks carry nothing at all for a while (one byte a
// second, half open, reset, 502), and no client can hold any bound over that. They are left early enough for the
// client's own bounds (clients/js/src/limits.ts) to pass before the last message is due: an attempt is given up after
// 5 s; a dead connection over which messages came is found out by a page after 3, 6, 12 or 24 s of silence; the wait
// before the next try is up to 1 s, doubled after each that failed.

const FINE = '';
/** WebSocket is out of the question, so that the faults beside it have to be met. */
const HTTP_ONLY = 'refuse-upgrade=403';

const NOTHING_WRONG = /^it is the first choice$/;
const REFUSED = /^websocket: the handshake failed \(1006\)$/;
const NO_ANSWER = /^(websocket|stream|long-poll|poll): (no answer came within \d+ s|the request failed|HTTP 502)/;
const heldBack = (transport) => new RegExp(`^${transport}: it opened, but lines are held back: none came within \\d+ s$`);
const FOUND_HELD_BACK = /^stream was lost: it held lines back$/;
const CUT = '(it was closed \\(1006\\)|the response ended|the request failed)';
const lost = (transport) => new RegExp(`^${transport} was lost( 3 times in 10 minutes)?: ${CUT}$`);

/** After an outage any will do: a round of tries that began in it may end after it, on any transport. */
const ANY = ['websocket', 'stream', 'long-poll', 'poll'];
const OUTAGE = [NOTHING_WRONG, REFUSED, heldBack('websocket'), heldBack('stream'), NO_ANSWER];
const ANY_BUT_WEBSOCKET = ANY.slice(1);
const OUTAGE_WITHOUT_WEBSOCKET = [REFUSED, heldBack('stream'), NO_ANSWER];

export const MODES = [
  {
    name: 'lets everything pass',
    faults: { 0: FINE },
    ends: ['websocket'],
    tells: [NOTHING_WRONG],
  },
  ...[403, 400].map((status) => ({
    name: `answers an Upgrade with ${status}`,
    faults: { 0: `refuse-upgrade=${status}` },
    ends: ['stream'],
    tells: [REFUSED],
  })),
  {
    name: 'takes Upgrade and Connection out of requests',
    faults: { 0: 'strip-upgrade' },
    ends: ['stream'],
    tells: [REFUSED],
  },
  {
    name: 'swallows frames after the 101',
    faults: { 0: 'swallow-frames' },
    ends: ['stream'],
    tells: [heldBack('websocket')],
  },
  {
    name: 'cuts WebSockets after 5 s',
    faults: { 0: 'cut-websocket=5000' },
    ends: ['stream'],
    tells: [NOTHING_WRONG, lost('websocket')],
    breaks: true,
  },
  {
    // Where it stands at the end is chance; what doesn't last for 5 s is never cut.
    name: 'cuts everything after 5 s',
    faults: { 0: 'cut=5000' },
    ends: ['stream', 'long-poll'],
    tells: [NOTHING_WRONG, lost('websocket'), lost('stream')],
    breaks: true,
  },
  {
    // While messages flow, so much comes together several times a second: a stream works, until they stop.
    name: 'buffers responses until 4 KB',
    faults: { 0: `${HTTP_ONLY} buffer=4096` },
    ends: ['stream', 'long-poll'],
    tells: [REFUSED, heldBack('stream'), FOUND_HELD_BACK],
  },
  {
    name: 'buffers responses until 64 KB',
    faults: { 0: `${HTTP_ONLY} buffer=65536` },
    ends: ['long-poll'],
    tells: [heldBack('stream'), FOUND_HELD_BACK],
  },
  {
    // That it is slow to open is all that the client can know.
    name: 'buffers responses until their end',
    faults: { 0: `${HTTP_ONLY} buffer=end` },
    ends: ['long-poll'],
    tells: [],
  },
  {
    name: 'passes one byte a second of what has no length',
    faults: { 0: 'drip=streams' },
    ends: ['long-poll'],
    tells: [heldBack('stream')],
  },
  {
    name: 'passes one byte a second of anything, for 5 s',
    faults: { 0: 'drip=all', 500: FINE },
    ends: ANY,
    tells: OUTAGE,
  },
  {
    name: 'takes Last-Event-ID out of requests, and cuts streams',
    faults: { 0: `${HTTP_ONLY} strip-last-event-id cut=5000` },
    ends: ['stream', 'long-poll'],
    tells: [REFUSED, lost('stream')],
    breaks: true,
  },
  {
    name: 'compresses responses piece by piece',
    faults: { 0: `${HTTP_ONLY} gzip=flush` },
    ends: ['stream'],
    tells: [REFUSED],
  },
  {
    name: "compresses responses when the compressor's window is full",
    faults: { 0: `${HTTP_ONLY} gzip=hold` },
    ends: ['long-poll'],
    tells: [heldBack('stream')],
  },
  {
    name: 'resets all connections for 2.5 s',
    faults: { 0: FINE, 200: 'reset', 450: FINE },
    ends: ANY,
    tells: OUTAGE,
    breaks: true,
  },
  {
    name: 'resets all connections for 2.5 s, and has no WebSocket',
    faults: { 0: HTTP_ONLY, 200: 'reset', 450: HTTP_ONLY },
    ends: ANY_BUT_WEBSOCKET,
    tells: OUTAGE_WITHOUT_WEBSOCKET,
    breaks: true,
  },
  {
    name: 'answers 502 for 2.5 s',
    faults: { 0: FINE, 200: 'answer=502', 450: FINE },
    ends: ANY,
    tells: OUTAGE,
    breaks: true,
  },
  {
    name: 'forgets WebSockets without a word',
    faults: { 0: FINE, 900: 'half-open', 901: FINE },
    ends: ANY,
    tells: OUTAGE,
    breaks: true,
  },
  {
    name: 'forgets streams without a word',
    faults: { 0: HTTP_ONLY, 900: 'half-open', 901: HTTP_ONLY },
    ends: ANY_BUT_WEBSOCKET,
    tells: OUTAGE_WITHOUT_WEBSOCKET,
    breaks: true,
  },
  {
    name: 'forgets long-polls without a word',
    faults: { 0: `${HTTP_ONLY} buffer=end`, 900: 'half-open', 901: `${HTTP_ONLY} buffer=end` },
    ends: ['long-poll', 'poll'],
    tells: [NO_ANSWER],
    breaks: true,
  },
  {
    name: 'is half open for 5 s',
    faults: { 0: FINE, 300: 'half-open', 800: FINE },
    ends: ANY,
    tells: OUTAGE,
    breaks: true,
  },
  {
    name: 'is half open for 5 s, and has no WebSocket',
    faults: { 0: HTTP_ONLY, 300: 'half-open', 800: HTTP_ONLY },
    ends: ANY_BUT_WEBSOCKET,
    tells: OUTAGE_WITHOUT_WEBSOCKET,
    breaks: true,
  },
  {
    name: 'is another one every few seconds',
    faults: {
      0: FINE,
      200: 'answer=502',
      300: HTTP_ONLY,
      500: 'reset',
      550: `${HTTP_ONLY} buffer=end`,
      900: 'half-open',
      901: 'swallow-frames',
      1300: 'reset',
      1310: FINE,
    },
    ends: ANY,
    tells: [...OUTAGE, lost('websocket'), lost('stream')],
    breaks: true,
  },
  {
    // The client opens the best beside what it has: both deliver for a moment.
    name: 'is another one, as the system says, with WebSocket and without',
    faults: { 0: HTTP_ONLY, 500: FINE, 900: HTTP_ONLY, 1300: FINE, 1700: HTTP_ONLY },
    changes: [500, 900, 1300, 1700],
    ends: ['stream'],
    tells: [REFUSED],
  },
  {
    name: 'is an nginx as it comes',
    nginx: 'plain',
    ends: ['stream'],
    tells: [REFUSED],
  },
  {
    name: 'is an nginx that compresses',
    nginx: 'gzip',
    ends: ['stream'],
    tells: [REFUSED],
  },
  {
    // It holds back more than one of its buffers. What the client finds held back it gets by a new stream, but for the
    // rest of another buffer; that is found out anew, and only then nothing comes and the stream is left. Twice 3 s of
    // silence and 1 s for the page, waits of up to 1 and 2 s, and 3 s until the first line is overdue.
    name: 'is an nginx that buffers, whatever the broker asks',
    nginx: 'deaf',
    within_ms: 14_000,
    ends: ['stream', 'long-poll'],
    tells: [REFUSED, heldBack('stream'), FOUND_HELD_BACK],
  },
];

/** Takes one message out of a stream, which no client can notice: the suite has to. */
export const LOSSY = {
  name: 'loses a message',
  faults: { 0: `${HTTP_ONLY} lose="n":1234}` },
  ends: ['stream'],
  tells: [REFUSED],
};
