// The broker under test: the release binary in $BROKER, on a port of its own and a data folder of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

export const BINARY = process.env.BROKER ?? new URL('../../../target/release/tailwire', import.meta.url).pathname;

/** How long the broker may take to be ready, or to end. A bound for failure, not a wait. */
const PATIENCE_MS = 20_000;

/** An empty folder below the system's folder for such. */
export const emptyFolder = () => mkdtemp(path.join(tmpdir(), 'tailwire-test-'));

/** What the broker inherits: nothing that would configure it. */
const environment = (more) => {
  const env = { ...process.env, ...more };
  for (const name of Object.keys(env)) {
    if (name.startsWith('TAILWIRE_') && !(name in more)) delete env[name];
  }
  return env;
};

/** Brokers that run: none outlives its tests, however these end. */
const running = new Set();
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => process.exit(1));

/** Runs the binary to its end, for command lines that are not to serve. */
export async function run(args, { env = {}, cwd, patience = PATIENCE_MS, program = BINARY } = {}) {
  const child = spawn(program, args, { env: environment(env), cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (said.stdout += chunk));
  child.stderr.on('data', (chunk) => (said.stderr += chunk));
  const limit = setTimeout(() => child.kill('SIGKILL'), patience);
  const [code, signal] = await once(child, 'close');
  clearTimeout(limit);
  return { code, signal, ...said };
}

export class Broker {
  /**
   * Starts a broker. `args` and `env` are further settings; `serve` replaces the usual arguments; `files` is how many it may
   * open; `stderr` is a descriptor that its log goes to, and then nobody here reads it. `program` runs in its place, and becomes
   * it; `ready: false` asks it nothing.
   */
  static async start({ args = [], env = {}, data, serve, files, stderr = 'pipe', program = BINARY, ready = true } = {}) {
    const broker = new Broker();
    broker.data = data ?? (await emptyFolder());
    broker.ownsData = data === undefined;
    broker.command = serve ?? ['serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--data', broker.data, ...args];
    broker.env = env;
    broker.files = files;
    broker.program = program;
    broker.asks = ready;
    broker.stderr = '';
    broker.stderrTo = stderr;
    await broker.spawn();
    return broker;
  }

  async spawn() {
    // The shell sets the limit, and becomes the broker.
    const limited = ['sh', '-c', `ulimit -n ${this.files} && exec "$0" "$@"`, BINARY, ...this.command];
    const [program, ...args] = this.files ? limited : [this.program, ...this.command];
    const child = spawn(program, args, { env: environment(this.env), stdio: ['ignore', 'pipe', this.stderrTo] });
    this.child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    this.ended = once(child, 'close').then(([code, signal]) => ({ code, signal }));
    const seen = this.stderr.length;
    this.stdout = '';
    child.stderr?.setEncoding('utf8').on('data', (chunk) => (this.stderr += chunk));
    const address = new Promise((resolve) => {
      child.stdout.setEncoding('utf8').on('data', (chunk) => {
        this.stdout += chunk;
        // The banner is whole once it says this.
        if (/Ctrl\+C drains/.test(this.stdout)) resolve(/address\s+(https?):\/\/\S+:(\d+)/.exec(this.stdout) ?? [null, 'http', 0]);
      });
    });
    const late = deadline('the broker does not say where it listens');
    const found = await Promise.race([address, late, this.ended.then(() => null)]).finally(late.cancel);
    if (!found) throw new Error(`the broker did not start:\n${this.stderr.slice(seen)}`);
    this.port = Number(found[2]);
    this.base = `${found[1]}://127.0.0.1:${this.port}`;
    this.operations = /metrics\s+(http:\/\/\S+)\/metrics/.exec(this.stdout)?.[1];
    // Over TLS a client has to trust it first; any client that knows the address may ask.
    if (found[1] === 'https' || !this.asks) return;
    const ready = await fetch(`${this.base}/readyz`);
    if (ready.status !== 200) throw new Error(`not ready: ${ready.status}`);
    await ready.arrayBuffer();
  }

  /** What it counts, as text. */
  async metrics() {
    return (await fetch(`${this.operations}/metrics`)).text();
  }

  get pid() {
    return this.child.pid;
  }

  /** Sends a signal and waits for the end; `ms` is how long that took. */
  async end(signal) {
    const began = performance.now();
    this.child.kill(signal);
    const late = deadline(`the broker does not end at ${signal}`);
    const how = await Promise.race([this.ended, late]).finally(late.cancel);
    return { ...how, ms: performance.now() - began };
  }

  /** Ends the broker in good order, and starts it on the same data; where it was, if clients are to find it again. */
  async restart({ samePort = false } = {}) {
    await this.end('SIGTERM');
    const isOwn = (word, before) => before === '--listen' && word === '127.0.0.1:0';
    if (samePort) this.command = this.command.map((word, n, all) => (isOwn(word, all[n - 1]) ? `127.0.0.1:${this.port}` : word));
    await this.spawn();
  }

  /** Takes the broker's life without a warning, and starts it on the same data. */
  async crash() {
    await this.end('SIGKILL');
    await this.spawn();
  }

  /** The end of a test: a panic anywhere in the broker is a failure, whatever the test was about. */
  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      await this.end('SIGTERM').catch(() => this.end('SIGKILL'));
    }
    if (this.ownsData) await rm(this.data, { recursive: true, force: true });
    if (/panicked at/.test(this.stderr)) throw new Error(`the broker panicked:\n${this.stderr}`);
  }

  /** Memory that is resident, in bytes. */
  async resident() {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
  }

  /** Open file descriptors. */
  async descriptors() {
    const { readdir } = await import('node:fs/promises');
    return (await readdir(`/proc/${this.pid}/fd`)).length;
  }
}

/**
 * A broker with a settings file, for the time of a test. `DATA` in the settings is the folder that the file stands in, which is
 * the broker's `folder`; `more` is as for `Broker.start`.
 */
export async function configured(t, settings, more = {}) {
  const folder = await emptyFolder();
  const file = path.join(folder, 'tailwire.toml');
  await writeFile(file, settings.replaceAll('DATA', folder));
  const broker = await Broker.start({ serve: ['serve', '--data', path.join(folder, 'log'), '--config', file], ...more });
  t.after(() => broker.stop());
  return Object.assign(broker, { folder });
}

/** A promise that fails after a while, unless it is cancelled. */
export function deadline(why, ms = PATIENCE_MS) {
  let timer;
  const promise = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${why} (after ${ms} ms)`)), ms);
  });
  promise.cancel = () => clearTimeout(timer);
  return promise;
}

/** Waits for a condition by asking for it again and again; fails when it doesn't come true. */
export async function eventually(condition, why, ms = PATIENCE_MS) {
  const end = performance.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) throw new Error(`${why} (after ${ms} ms)`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
