// Requests by `fetch`, and what is looked at in their answers.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import http from 'node:http';

export const CURSOR = /^[0-9a-v]{8}-[0-9a-v]{11}$/;

/** How long an answer may take, also that of a poll which waits. A bound for failure, not a wait. */
const PATIENCE_MS = 30_000;

let counter = 0;
/** A topic that no other test uses. */
export const freshTopic = (name = 't') => `${name}/${process.pid}-${(counter += 1)}`;

/** Makes a request and reads the whole answer. `json` is the parsed body, if it is JSON. */
export async function request(url, options = {}) {
  const response = await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS), ...options });
  const bytes = Buffer.from(await response.arrayBuffer());
  const text = bytes.toString('utf8');
  const isJson = /^application\/(problem\+)?json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    bytes,
    text,
    json: isJson && text ? JSON.parse(text) : undefined,
  };
}

/** A request by Node's own client, for what `fetch` has no option for: a Unix socket, an address to ask from. */
export const requestBy = (options, body) =>
  new Promise((resolve, reject) => {
    const asked = http.request(options, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, text }));
    });
    asked.on('error', reject).end(body);
  });

/** Publishes a body, by default as text; fails unless it is acknowledged. Gives the receipt. */
export async function publish(base, topic, body, headers = { 'content-type': 'text/plain' }) {
  const answer = await request(`${base}/topics/${topic}`, { method: 'POST', body, headers });
  assert.equal(answer.status, 201, answer.text);
  return answer.json;
}

/** Publishes many JSON values to one topic in one commit. Gives their receipts. */
export async function publishBatch(base, topic, values) {
  const answer = await postLines(`${base}/topics/${topic}`, values);
  assert.equal(answer.status, 201, answer.text);
  return answer.json.receipts;
}

/** Posts values as NDJSON. */
export const postLines = (url, values, headers = {}) =>
  request(url, {
    method: 'POST',
    body: values.map((value) => JSON.stringify(value)).join('\n'),
    headers: { 'content-type': 'application/x-ndjson', ...headers },
  });

/** Removes a topic's messages. */
export async function remove(base, topic) {
  const answer = await request(`${base}/topics/${topic}`, { method: 'DELETE' });
  assert.equal(answer.status, 204, answer.text);
}

/** Asserts that an answer is a problem of this status and code, as RFC 9457 has it. */
export function assertProblem(answer, status, code) {
  assert.deepEqual([answer.status, answer.json?.code], [status, code], answer.text);
  assert.equal(answer.headers.get('content-type'), 'application/problem+json');
  assert.equal(answer.headers.get('cache-control'), 'no-store');
  assert.equal(answer.json.status, status);
  assert.equal(typeof answer.json.title, 'string');
  return answer.json;
}

/** The URL of a link to another page, resolved. */
export function link(response, url, rel) {
  const found = new RegExp(`<([^>]*)>;\\s*rel="${rel}"`).exec(response.headers.get('link') ?? '');
  return found ? new URL(found[1], url).href : undefined;
}

/** The URL of the next page. */
export const nextLink = (response, url) => link(response, url, 'next');

/** All messages of a topic, by pages. */
export async function readAll(base, path, after = 'earliest') {
  const messages = [];
  let url = `${base}${path}${path.includes('?') ? '&' : '?'}after=${after}&limit=1000`;
  for (;;) {
    const page = await request(url, { headers: { accept: 'application/json' } });
    assert.ok(page.status === 200 || page.status === 202, `${page.status} ${page.text}`);
    messages.push(...page.json.messages);
    if (!page.json.more) return messages;
    url = nextLink(page, url);
  }
}

/** Runs curl. Gives its standard output, or fails. */
export const curl = (...args) =>
  new Promise((resolve, reject) => {
    const options = { encoding: 'buffer', maxBuffer: 64 << 20 };
    execFile('curl', ['--silent', '--show-error', '--max-time', '20', ...args], options, (error, stdout, stderr) => {
      if (error) reject(new Error(`curl: ${stderr}${error.message}`));
      else resolve(stdout.toString('utf8'));
    });
  });
