// A WebSocket of `tailwire.v1`, by `ws`: sends requests, and tells answers from the lines of subscriptions.

import { WebSocket } from 'ws';

import { Listener } from './listener.mjs';

export class LineSocket {
  /** Everything that no request waits for, in order: messages, gaps, heartbeats, and answers without an id. */
  lines = new Listener();
  /** Every line, in the order in which it came. */
  all = [];
  #waiting = new Map();
  #nextId = 1000;

  /** Opens a socket; `path` may name topics. */
  static async open(t, base, path = '/stream', { protocols = ['tailwire.v1'], ...options } = {}) {
    const self = new LineSocket();
    const socket = new WebSocket(base.replace(/^http/, 'ws') + path, protocols, { perMessageDeflate: false, ...options });
    self.socket = socket;
    t.after(() => socket.terminate());
    self.closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => {
        resolve({ code, reason: reason.toString() });
        self.lines.end();
      });
    });
    const welcome = new Promise((resolve, reject) => {
      socket.on('message', (data, isBinary) => {
        if (isBinary) throw new Error('the broker sent a binary frame');
        const line = JSON.parse(data.toString('utf8'));
        self.all.push(line);
        if (line.kind === 'welcome') resolve(line);
        else self.#take(line);
      });
      socket.on('error', reject);
      socket.on('unexpected-response', (_, response) => {
        let body = '';
        response.on('data', (chunk) => (body += chunk));
        response.on('end', () => {
          const error = new Error(`status ${response.statusCode}`);
          reject(Object.assign(error, { status: response.statusCode, headers: response.headers, body }));
        });
      });
    });
    self.welcome = await welcome;
    return self;
  }

  #take(line) {
    const isAnswer = line.kind === 'ok' || line.kind === 'error';
    const waiting = isAnswer && this.#waiting.get(JSON.stringify(line.id));
    if (!waiting) return this.lines.push(line);
    this.#waiting.delete(JSON.stringify(line.id));
    return waiting(line);
  }

  /** Sends a request and waits for its answer. Without an `id` it gets one. */
  ask(request) {
    const id = request.id ?? (this.#nextId += 1);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${JSON.stringify(request).slice(0, 200)}`)), 20_000);
      this.#waiting.set(JSON.stringify(id), (line) => {
        clearTimeout(timer);
        resolve(line);
      });
      this.socket.send(JSON.stringify({ ...request, id }));
    });
  }

  /** Sends a line as it is. */
  send(line) {
    this.socket.send(line);
  }

  /** The next line that answers nothing, other than a heartbeat. */
  async line() {
    // Signs of life don't put off the end of the wait.
    const end = performance.now() + 20_000;
    for (;;) {
      const line = await this.lines.next(Math.max(end - performance.now(), 0));
      if (line?.kind !== 'heartbeat') return line;
    }
  }

  /** All such lines up to the first for which `isLast` holds. */
  async linesUntil(isLast) {
    const lines = [];
    do {
      const line = await this.line();
      if (!line) throw new Error(`the socket closed after ${JSON.stringify(lines.at(-1))}`);
      lines.push(line);
    } while (!isLast(lines.at(-1)));
    return lines;
  }
}
