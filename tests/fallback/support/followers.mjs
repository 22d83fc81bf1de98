// Where subscribers live: in this process, and in pages of a browser.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import http from 'node:http';

import { chromium } from 'playwright-core';
import WebSocket from 'ws';

import { connect } from '../../../clients/js/dist/tailwire.mjs';
import { follow } from './follow.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];

const FILES = {
  '/': ['text/html', '../pages/follow.html'],
  '/follow.mjs': ['text/javascript', './follow.mjs'],
  '/tailwire.js': ['text/javascript', '../../../clients/js/dist/tailwire.js'],
};

/** Node has no WebSocket of its own before version 22: a common one is given to the client. */
export class Node {
  name = 'Node';

  /** A place for one subscriber. `changed` is what a system says when its network has changed. */
  async place() {
    let following;
    let tell;
    const network = { id: () => '', listen: (run) => ((tell = run), () => {}) };
    return {
      follow: async (url, topic, last) => {
        following = follow(connect, url, topic, last, { WebSocket, network });
        return following.complete;
      },
      changed: async () => tell('network'),
      report: async () => following.report(),
      close: async () => following?.close(),
    };
  }

  async stop() {}
}

/** A browser, and the site whose pages it shows. */
export class Chromium {
  name = 'Chromium';
  #server;
  #browser;

  static async start() {
    const started = new Chromium();
    started.#server = await serve();
    started.origin = `http://127.0.0.1:${started.#server.address().port}`;
    // Playwright gives each launch a profile folder of its own, and removes it.
    started.#browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
    return started;
  }

  /** A page in a context of its own: nothing that one remembers is known to another. */
  async place() {
    const context = await this.#browser.newContext();
    const page = await context.newPage();
    await page.goto(this.origin);
    return {
      follow: (...what) => page.evaluate((what) => begin(...what), what),
      changed: () => page.evaluate(() => void dispatchEvent(new Event('online'))),
      report: () => page.evaluate(() => following.report()),
      close: () => context.close(),
    };
  }

  async stop() {
    await this.#browser.close();
    this.#server.close();
  }
}

async function serve() {
  const server = http.createServer(async ({ url }, response) => {
    const [type, file] = FILES[new URL(url, 'http://localhost').pathname] ?? [];
    if (!file) return response.writeHead(404).end();
    const body = await readFile(new URL(file, import.meta.url));
    response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
