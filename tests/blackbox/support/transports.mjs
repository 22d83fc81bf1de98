// Every transport behind one interface, by clients that others wrote: so that one list of cases runs over all of them.
//
// `listen({ base, path, after | last })` gives a `Listener` of items, told apart by `kind`: message, caught_up, gap,
// heartbeat, bye, as in the broker's lines. `after` is `latest` unless one of them is given. The listener's `ready`
// settles when everything published from then on will be heard.

import { EventSource } from 'eventsource';
import { WebSocket } from 'ws';

import { deadline } from './broker.mjs';
import { nextLink } from './http.mjs';
import { Listener } from './listener.mjs';

/** How often the client of plain pages asks; the broker's own advice is meant for crowds. */
const POLL_MS = 25;

function address({ base, path, after, last, query = {} }) {
  const url = new URL(path, base);
  if (last !== undefined) url.searchParams.set('last', last);
  else url.searchParams.set('after', after ?? 'latest');
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return url;
}

function websocket(where) {
  const listener = new Listener();
  const url = address(where);
  url.protocol = 'ws:';
  const socket = new WebSocket(url, 'tailwire.v1', { perMessageDeflate: false });
  socket.on('message', (data) => {
    const line = JSON.parse(data.toString('utf8'));
    if (line.kind === 'ok' && line.id === 0) {
      listener.cursor = line.cursor;
      listener.opened();
    } else if (line.kind !== 'welcome') {
      listener.push(line);
    }
  });
  socket.on('unexpected-response', (_, response) => listener.end(new Error(`status ${response.statusCode}`)));
  socket.on('error', (error) => listener.end(error));
  socket.on('close', () => listener.end());
  listener.hangUp = () => socket.terminate();
  return listener;
}

/** Server-sent events. Without an envelope a message has only its data, as published. */
function sse(where, envelope) {
  const listener = new Listener();
  const url = address({ ...where, query: { ...where.query, ...(envelope && { envelope: 'true' }) } });
  // Our own fetch, only to see the status and the header of the answer.
  const source = new EventSource(url, {
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      listener.cursor ??= response.headers.get('tailwire-cursor');
      return response;
    },
  });
  source.addEventListener('open', () => listener.opened());
  const message = ({ data, lastEventId, type }) =>
    listener.push(envelope ? JSON.parse(data) : { kind: 'message', cursor: lastEventId, plain: data, event: type });
  for (const name of ['message', ...(where.events ?? [])]) source.addEventListener(name, message);
  for (const name of ['tailwire.gap', 'tailwire.caught_up', 'tailwire.bye']) {
    source.addEventListener(name, ({ data }) => {
      listener.push(JSON.parse(data));
      // It would come back by itself.
      if (name === 'tailwire.bye') listener.close();
    });
  }
  source.addEventListener('error', ({ code, message: why }) => {
    source.close();
    listener.end(code ? new Error(`status ${code}: ${why}`) : undefined);
  });
  listener.hangUp = () => source.close();
  return listener;
}

function ndjson(where) {
  const listener = new Listener();
  const abort = new AbortController();
  listener.hangUp = () => abort.abort();
  const read = async () => {
    const response = await fetch(address(where), {
      headers: { accept: 'application/x-ndjson' },
      signal: abort.signal,
    });
    if (response.status !== 200) throw new Error(`status ${response.status}: ${await response.text()}`);
    listener.cursor = response.headers.get('tailwire-cursor');
    listener.opened();
    const decoder = new TextDecoder('utf-8', { fatal: true });
    let rest = [];
    for await (const chunk of response.body) {
      const parts = decoder.decode(chunk, { stream: true }).split('\n');
      for (const part of parts.slice(0, -1)) {
        listener.push(JSON.parse(rest.join('') + part));
        rest = [];
      }
      rest.push(parts.at(-1));
    }
  };
  read().then(
    () => listener.end(),
    (error) => listener.end(abort.signal.aborted ? undefined : error),
  );
  return listener;
}

/** Pages, one after the other by their `next` links; held by the broker, or asked for again. */
function pages(where, wait) {
  const listener = new Listener();
  const abort = new AbortController();
  listener.hangUp = () => abort.abort();
  const read = async () => {
    let url = address(where).href;
    let isFirst = true;
    let caughtUp = false;
    while (!abort.signal.aborted) {
      // The first answer comes at once, so that the listener's place is known.
      const headers = { accept: 'application/json', ...(wait && !isFirst && { prefer: 'wait=20' }) };
      const response = await fetch(url, { headers, signal: abort.signal });
      const body = await response.json();
      if (response.status === 410) {
        listener.push({ kind: 'gap', from: body.from, to: body.to, reason: body.reason });
      } else if (response.status === 200 || response.status === 202) {
        for (const message of body.messages) listener.push({ kind: 'message', ...message });
        if (!body.more && !caughtUp) listener.push({ kind: 'caught_up', cursor: body.cursor });
        caughtUp ||= !body.more;
      } else {
        throw new Error(`status ${response.status}: ${JSON.stringify(body)}`);
      }
      if (isFirst) listener.cursor = response.headers.get('tailwire-cursor');
      isFirst = false;
      listener.opened();
      url = nextLink(response, url);
      if (!url) throw new Error(`no next link after ${response.status}`);
      if (response.status === 202 && !wait) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  };
  read().then(
    () => listener.end(),
    (error) => listener.end(abort.signal.aborted ? undefined : error),
  );
  return listener;
}

/** The table. `hasTopic`: its messages say which topic they are from. */
export const TRANSPORTS = [
  { name: 'websocket', hasTopic: true, listen: websocket },
  { name: 'sse', hasTopic: false, listen: (where) => sse(where, false) },
  { name: 'sse-envelope', hasTopic: true, listen: (where) => sse(where, true) },
  { name: 'ndjson', hasTopic: true, listen: ndjson },
  { name: 'long-poll', hasTopic: true, listen: (where) => pages(where, true) },
  { name: 'pages', hasTopic: true, listen: (where) => pages(where, false) },
];

/** A message's data as text, however the transport wraps it: JSON without spaces, binary in base64. */
export function textOf(message) {
  if (message.plain !== undefined) return message.plain;
  return typeof message.data === 'string' && !/json/.test(message.type ?? '')
    ? message.data
    : JSON.stringify(message.data);
}

/** Opens a listener for the time of a test. */
export async function open(t, transport, where) {
  const listener = transport.listen(where);
  t.after(() => listener.close());
  const late = deadline(`${transport.name} does not open`);
  await Promise.race([listener.ready, late]).finally(late.cancel);
  return listener;
}
