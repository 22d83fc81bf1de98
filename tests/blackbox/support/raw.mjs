// A TCP socket, for clients that no library would be: sends bytes as they are, and keeps what comes.

import { once } from 'node:events';
import { connect } from 'node:net';

const PATIENCE_MS = 20_000;

export class Raw {
  /** What came so far. */
  received = Buffer.alloc(0);

  /** Opens a connection, for the time of a test. `paused` reads nothing until `resume`. */
  static async open(t, port, { paused = false } = {}) {
    const raw = new Raw();
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    raw.socket = socket;
    t?.after(() => socket.destroy());
    socket.on('error', () => {});
    raw.closed = new Promise((resolve) => {
      socket.on('end', () => resolve(performance.now()));
      socket.on('close', () => resolve(performance.now()));
    });
    await once(socket, 'connect');
    if (!paused) raw.resume();
    return raw;
  }

  resume() {
    this.socket.on('data', (chunk) => (this.received = Buffer.concat([this.received, chunk])));
  }

  send(bytes) {
    return new Promise((resolve) => this.socket.write(bytes, resolve));
  }

  get text() {
    return this.received.toString('utf8');
  }

  /** Waits until what came so far matches; gives the match. */
  async until(pattern, ms = PATIENCE_MS) {
    const isThere = () => (typeof pattern === 'function' ? pattern(this) : pattern.exec(this.text));
    let found = isThere();
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no ${pattern} in:\n${this.text.slice(-2000)}`)), ms);
    });
    late.catch(() => {});
    let isClosed = false;
    this.closed.then(() => (isClosed = true));
    while (!found) {
      if (isClosed) throw new Error(`closed before ${pattern}, after:\n${this.text.slice(-2000)}`);
      await Promise.race([once(this.socket, 'data'), this.closed, late]).finally(() => {});
      found = isThere();
    }
    clearTimeout(timer);
    return found;
  }

  /** Waits for the end of what the other side sends. */
  async end(ms = PATIENCE_MS) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`still open, after:\n${this.text.slice(-2000)}`)), ms);
    });
    await Promise.race([this.closed, late]).finally(() => clearTimeout(timer));
    return this.text;
  }

  close() {
    this.socket.destroy();
  }
}

/** Sends one request over a connection of its own, and reads until the broker closes it. */
export async function exchange(t, port, bytes) {
  const raw = await Raw.open(t, port);
  await raw.send(bytes);
  const text = await raw.end();
  raw.close();
  return text;
}

/** A WebSocket handshake by hand; gives the connection after the 101. */
export async function rawWebSocket(t, port, path = '/stream') {
  const raw = await Raw.open(t, port);
  await raw.send(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  await raw.until(/^HTTP\/1\.1 101 [\s\S]*?\r\n\r\n/);
  return raw;
}

/** A frame as a client sends it (RFC 6455 §5.2), with whatever is wrong with it. */
export function frame(opcode, payload, { fin = true, rsv = 0, masked = true, length } = {}) {
  const body = Buffer.from(payload);
  const claimed = length ?? body.length;
  const mask = masked ? 0x80 : 0;
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  if (claimed < 126) head.push(mask | claimed);
  else if (claimed < 65_536) head.push(mask | 126, claimed >> 8, claimed & 255);
  else {
    const eight = Buffer.alloc(8);
    eight.writeBigUInt64BE(BigInt(claimed));
    head.push(mask | 127, ...eight);
  }
  const key = [1, 2, 3, 4];
  if (!masked) return Buffer.concat([Buffer.from(head), body]);
  return Buffer.concat([Buffer.from([...head, ...key]), body.map((byte, index) => byte ^ key[index % 4])]);
}

/** The code of the close frame that came, if one did. */
export function closeCode(raw) {
  let at = raw.received.indexOf('\r\n\r\n') + 4;
  while (at + 2 <= raw.received.length) {
    const opcode = raw.received[at] & 15;
    let length = raw.received[at + 1] & 127;
    at += 2;
    if (length === 126) {
      length = raw.received.readUInt16BE(at);
      at += 2;
    } else if (length === 127) {
      length = Number(raw.received.readBigUInt64BE(at));
      at += 8;
    }
    if (opcode === 8) return raw.received.readUInt16BE(at);
    at += length;
  }
  return undefined;
}
