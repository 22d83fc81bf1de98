// The fault proxy (tests/src/bin/proxy), as a child process: as many ports as there are networks to be had.

import { createInterface } from 'node:readline';

import { start } from './child.mjs';

const BINARY = process.env.PROXY ?? new URL('../../../target/release/proxy', import.meta.url).pathname;

export class Proxy {
  #child;
  #answers;

  /** In front of the broker at this port. */
  constructor(broker) {
    this.#child = start(BINARY, ['--to', `127.0.0.1:${broker}`]);
    this.#answers = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  /** A port with these faults. */
  async open(faults) {
    return Number(await this.#ask(`open ${faults}`));
  }

  /** From here on a port has these faults. */
  async turn(port, faults) {
    await this.#ask(`turn ${port} ${faults}`);
  }

  async stop() {
    this.#child.stdin.end();
    await this.#child.ended;
  }

  async #ask(line) {
    this.#child.stdin.write(`${line}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Error(`the proxy ended: ${this.#child.said}`);
    if (value.startsWith('error: ')) throw new Error(`${line}: ${value}`);
    return value;
  }
}
