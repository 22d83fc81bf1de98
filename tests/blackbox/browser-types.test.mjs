// What anybody may have published runs nothing in a browser, whatever its type says that it is, and however a page asks for it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';

import { chromium } from 'playwright-core';

import { Broker, eventually } from './support/broker.mjs';
import { freshTopic, publish } from './support/http.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const TYPES = [
  'text/html',
  'TEXT/HTML; charset=utf-8',
  'text/html; charset=utf-7',
  'application/xhtml+xml',
  'application/vnd.wap.xhtml+xml',
  'image/svg+xml',
  'text/xml',
  'application/xml',
  'application/rss+xml',
  'application/atom+xml',
  'application/xslt+xml',
  'application/mathml+xml',
  'text/javascript',
  'application/javascript',
  'application/x-javascript',
  'application/ecmascript',
  'text/jscript',
  'text/livescript',
  'text/javascript1.5',
  'text/x-ecmascript',
  'text/vbscript',
  'text/css',
  'application/wasm',
  'application/pdf',
  'multipart/related; boundary=x',
  'multipart/x-mixed-replace; boundary=x',
  'message/rfc822',
  'text/x-component',
  'text/cache-manifest',
  'application/manifest+json',
  'application/json',
  'application/ld+json',
  'text/plain',
  'text/plain; charset=utf-7',
  'text/markdown',
  'text/vtt',
  'image/png',
  'image/gif',
  'font/woff2',
  'video/mp4',
  'application/octet-stream',
  'application/x-shockwave-flash',
  'application/java-archive',
  'application/zip',
  'unknown/unknown',
  '',
];

let browser;
let broker;
/** Who ran says so here; and pages are from here, which may do anything. */
const canary = { said: [], pages: new Map() };

before(async () => {
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  broker = await Broker.start();
  canary.server = http.createServer((request, response) => {
    const url = new URL(request.url, 'http://localhost');
    if (url.pathname === '/ran') canary.said.push(url.searchParams.get('who'));
    const [type, body] = canary.pages.get(url.pathname) ?? ['text/html', '<!doctype html><title>blank</title>'];
    response.writeHead(200, { 'content-type': type }).end(body);
  });
  canary.server.listen(0, '127.0.0.1');
  await once(canary.server, 'listening');
  canary.origin = `http://127.0.0.1:${canary.server.address().port}`;
});
after(async () => {
  await browser?.close();
  canary.server?.closeAllConnections();
  canary.server?.close();
  await broker?.stop();
});

const code = (who) => `fetch(${JSON.stringify(`${canary.origin}/ran?who=${encodeURIComponent(who)}`)},{mode:"no-cors"})`;

/** Bodies that run where a browser takes them for what they are. */
const BODIES = {
  markup: (who) => `<!doctype html><html><body><script>${code(who)}</script><img src="x" onerror='${code(who)}'></body></html>`,
  svg: (who) => `<svg xmlns="http://www.w3.org/2000/svg" onload='${code(who)}'><script>${code(who)}</script></svg>`,
  script: (who) => code(who),
  style: (who) => `@import url("${canary.origin}/ran?who=${encodeURIComponent(who)}"); body { color: red }`,
  parts: (who) => `--x\r\nContent-Type: text/html\r\n\r\n${BODIES.markup(who)}\r\n--x--\r\n`,
};

async function opened(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.on('dialog', (dialog) => void dialog.dismiss());
  return page;
}

/** Goes there, to look or to get a download. */
const visit = (page, url) => page.goto(url, { waitUntil: 'load', timeout: 20_000 }).catch((error) => assert.match(error.message, /Download|ERR_ABORTED|ERR_INVALID_RESPONSE/i));

/** In every way that a page has, until each has ended. */
const loadEverywhere = (page, urls) =>
  page.evaluate(async (urls) => {
    const made = (url, tag, attributes) =>
      new Promise((resolve) => {
        const element = Object.assign(document.createElement(tag), attributes);
        element.onload = element.onerror = resolve;
        document.body.append(element);
        // Some elements say nothing where there is nothing to show.
        setTimeout(resolve, 300);
      });
    for (const url of urls) {
      await Promise.all([
        made(url, 'script', { src: url }),
        made(url, 'script', { src: url, type: 'module' }),
        made(url, 'link', { rel: 'stylesheet', href: url }),
        made(url, 'iframe', { src: url }),
        made(url, 'object', { data: url }),
        made(url, 'embed', { src: url }),
        made(url, 'img', { src: url }),
        import(url).catch(() => {}),
      ]);
      for (const element of [...document.body.children]) element.remove();
    }
  }, urls);

/** Waits for what is sure to run: then all that ran before it has said so. */
async function settled(t) {
  const page = await opened(t);
  canary.pages.set('/control', ['text/html', BODIES.markup('control')]);
  const before = canary.said.filter((who) => who === 'control').length;
  await page.goto(`${canary.origin}/control`);
  await eventually(() => canary.said.filter((who) => who === 'control').length > before, 'the control does not run');
  return canary.said.splice(0).filter((who) => who !== 'control');
}

describe('what is stored', () => {
  test('would run, were it served as what it says that it is', async (t) => {
    const page = await opened(t);
    canary.pages.set('/own.js', ['text/javascript', BODIES.script('own.js')]);
    canary.pages.set('/own.css', ['text/css', BODIES.style('own.css')]);
    canary.pages.set('/own.svg', ['image/svg+xml', BODIES.svg('own.svg')]);
    await page.goto(canary.origin);
    await loadEverywhere(page, ['/own.js', '/own.css', '/own.svg'].map((path) => canary.origin + path));
    await eventually(() => ['own.js', 'own.css', 'own.svg'].every((who) => canary.said.includes(who)), 'the control does not run');
    canary.said.length = 0;
  });

  for (const [kind, body] of Object.entries(BODIES)) {
    test(`as ${kind} runs nothing, whatever its type`, async (t) => {
      const page = await opened(t);
      const urls = [];
      for (const [index, type] of TYPES.entries()) {
        const topic = freshTopic('types');
        const text = type.includes('json') ? JSON.stringify(body(`${kind} ${type}`)) : body(`${kind} ${type}`);
        const { cursor } = await publish(broker.base, topic, text, { 'content-type': type });
        urls.push(`${broker.base}/messages/${cursor}`);
        // Its other representations, which are alike for all.
        if (index === 0) for (const format of ['raw', 'json', 'atom', 'jsonfeed']) urls.push(`${broker.base}/topics/${topic}?format=${format}`);
      }
      for (const url of urls) await visit(page, url);
      await page.goto(canary.origin);
      await loadEverywhere(page, urls);
      assert.deepEqual(await settled(t), []);
    });
  }
});

test('what stands in a URL runs nothing in its answer', async (t) => {
  const page = await opened(t);
  const markup = encodeURIComponent(BODIES.markup('url'));
  for (const path of [
    `/${markup}`,
    `/topics/${markup}`,
    `/topics/${markup}/..`,
    `/topics/a?format=${markup}`,
    `/topics/a?after=${markup}`,
    `/topics/a?${markup}=1`,
    `/topics?prefix=${markup}`,
    `/messages/${markup}`,
    `/options/${markup}`,
    `/stream?topic=${markup}&format=atom`,
    `/client.js?${markup}`,
    `/.well-known/oauth-protected-resource/${markup}`,
  ]) {
    await visit(page, broker.base + path);
    await visit(page, `${broker.base}${path}#${markup}`);
  }
  assert.deepEqual(await settled(t), []);
});
