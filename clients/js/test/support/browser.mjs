/** A real browser ($CHROMIUM, or where Debian puts it), and a server of files for its pages. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const binary = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const missing = existsSync(binary) ? false : "no browser: install Chromium, or say where it is in $CHROMIUM";

const root = fileURLToPath(new URL("../..", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" };

export const launch = () => chromium.launch({ executablePath: binary, args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"] });

/** Serves this folder, and an empty page at `/blank`. */
export async function serveFiles() {
  const server = createServer(async ({ url }, response) => {
    const path = normalize(new URL(url, "http://x/").pathname);
    try {
      const body = path === "/blank" ? "<!doctype html><title>blank</title>" : await readFile(join(root, path));
      response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "text/html" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return { origin, close: () => (server.closeAllConnections(), server.close()) };
}
