/** The real broker as a child process. It is found in $BROKER, or where cargo puts it. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const binary = process.env.BROKER ?? fileURLToPath(new URL("../../../../target/release/tailwire", import.meta.url));
export const missing = existsSync(binary) ? false : "no broker: build it, or say where it is in $BROKER";

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Brokers that run: none outlives its tests, however these end. */
const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));

export class Broker {
  #child;
  #args;

  static async start(...args) {
    const broker = new Broker();
    broker.port = await freePort();
    broker.url = `http://127.0.0.1:${broker.port}/`;
    broker.operations = await freePort();
    broker.data = mkdtempSync(join(tmpdir(), "tailwire-js-"));
    broker.#args = args;
    await broker.start();
    return broker;
  }

  async start() {
    const addresses = ["--listen", `127.0.0.1:${this.port}`, "--admin-listen", `127.0.0.1:${this.operations}`];
    this.#child = spawn(binary, ["serve", ...addresses, "--data", this.data, "--log-level", "error", ...this.#args], { stdio: ["ignore", "ignore", "inherit"] });
    const child = this.#child;
    running.add(child);
    child.once("exit", () => running.delete(child));
    for (;;) {
      try {
        const response = await fetch(`${this.url}readyz`);
        if (response.ok) return;
      } catch {
        // Not listening yet.
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** What it counts. */
  async metrics() {
    return (await fetch(`http://127.0.0.1:${this.operations}/metrics`)).text();
  }

  /** SIGTERM drains, SIGKILL doesn't. Resolves when the process is gone. */
  async kill(signal) {
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill(signal);
    await gone;
  }

  /** Takes away what a broker that was killed had stored. */
  wipe() {
    rmSync(this.data, { recursive: true });
  }

  async stop() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.kill("SIGKILL");
    rmSync(this.data, { recursive: true, force: true });
  }
}
