/**
 * A network between the client and the simulated broker, with the faults that real ones have. It gives the client its
 * `fetch` and its `WebSocket`. All times are virtual, all chance is seeded.
 */
import { BrokerStream, BrokerSocket } from "./simulated-sessions.mjs";

export class SimulatedNetwork {
  /** Faults that apply to what is opened from now on. */
  websocket = "fine";
  http = "fine";
  /** Milliseconds one way. */
  latency = 20;
  requests = 0;
  #open = new Set();

  constructor(clock, random, broker) {
    Object.assign(this, { clock, random, broker });
    const network = this;
    this.WebSocket = class {
      constructor(url, protocol) {
        network.requests++;
        return new SimulatedSocket(network, url, protocol);
      }
    };
    this.fetch = (url, init) => {
      this.requests++;
      return new SimulatedRequest(this, new URL(url), init).response;
    };
  }

  later(ms, run) {
    this.clock.setTimeout(run, ms);
  }

  delay() {
    return this.latency * (0.5 + this.random());
  }

  register(connection) {
    this.#open.add(connection);
    return () => this.#open.delete(connection);
  }

  /** Everything that is open breaks: noticed by the client, or not. */
  cut(silently) {
    for (const connection of [...this.#open]) silently ? connection.freeze() : connection.break();
  }

  /** The broker says goodbye to all streams. */
  drain() {
    for (const connection of [...this.#open]) connection.session?.bye();
  }

  /** Whether what is opened now is cut, and when. */
  cutAfter(mode) {
    const [, seconds] = /^cut (\d+)/.exec(mode) ?? [];
    return seconds && Number(seconds) * 1000;
  }
}

/** What both kinds of connection have in common: order, cuts, and half-open. */
class Connection {
  constructor(network, mode) {
    this.network = network;
    this.mode = mode;
    this.frozen = false;
    this.gone = false;
    this.unregister = network.register(this);
    this.arrives_at = 0;
    const cut = network.cutAfter(mode);
    if (cut) network.later(cut, () => this.break());
  }

  /** Runs at the client, after the way, in order. */
  toClient(run) {
    const { clock } = this.network;
    this.arrives_at = Math.max(this.arrives_at + 0.001, clock.now() + this.network.delay());
    this.network.later(this.arrives_at - clock.now(), () => {
      // What comes for a tab that is frozen waits until it thaws.
      if (this.tab?.frozen) this.tab.thawed.push(() => this.#arrive(run));
      else this.#arrive(run);
    });
  }

  #arrive(run) {
    if (!this.gone && !this.frozen) run();
  }

  toBroker(run) {
    const { clock } = this.network;
    this.reaches_at = Math.max((this.reaches_at ?? 0) + 0.001, clock.now() + this.network.delay());
    this.network.later(this.reaches_at - clock.now(), () => {
      if (!this.gone && !this.frozen && !this.network.broker.down) run();
    });
  }

  freeze() {
    this.frozen = true;
    this.session?.close();
  }

  release() {
    this.gone = true;
    this.session?.close();
    this.unregister();
  }
}

class SimulatedSocket extends Connection {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;

  constructor(network) {
    super(network, network.websocket);
    const { mode } = this;
    if (mode === "refused" || network.broker.down) network.later(network.delay(), () => this.break());
    else if (mode !== "hangs") this.toBroker(() => this.#accepted());
  }

  #accepted() {
    this.toClient(() => this.onopen?.({}));
    if (this.mode === "swallows") return;
    this.session = new BrokerSocket(this.network, (line) => {
      const text = JSON.stringify(line);
      this.toClient(() => this.onmessage?.({ data: text }));
    }, () => this.toClient(() => this.break(1012)));
    this.session.open();
  }

  send(text) {
    if (this.mode !== "deaf") this.toBroker(() => this.session?.receive(JSON.parse(text)));
  }

  break(code = 1006) {
    if (this.gone) return;
    this.release();
    this.onerror?.({});
    this.onclose?.({ code, reason: "" });
  }

  close() {
    this.release();
  }
}

class SimulatedRequest extends Connection {
  constructor(network, url, { method, body, signal, headers, tab }) {
    super(network, network.http);
    this.tab = tab;
    this.chunks = [];
    this.waiting = [];
    this.response = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.response.catch(() => {});
    signal?.addEventListener("abort", () => this.break(new Error("aborted")));
    const { mode } = this;
    if (signal?.aborted) this.break(new Error("aborted"));
    else if (mode === "refused" || network.broker.down) network.later(network.delay(), () => this.break());
    else if (mode === "502") network.later(network.delay(), () => this.#answer(502, "<html>Bad gateway</html>"));
    else if (mode !== "hangs") this.toBroker(() => (method === "POST" ? this.#post(body, headers) : this.#get(url)));
  }

  #get(url) {
    const query = url.searchParams;
    if (query.get("envelope")) {
      this.#head(200);
      this.session = new BrokerStream(this.network, query, (text) => this.#write(text), () => this.#end());
      this.session.open();
      return;
    }
    const page = this.network.broker.page(query);
    const wait = Number(query.get("wait") ?? 0) * 1000;
    if (page.status !== 202 || !wait) return this.#answer(page.status, JSON.stringify(page.body));
    const done = () => {
      detach();
      const { status, body } = this.network.broker.page(query);
      this.#answer(status, JSON.stringify(body));
    };
    const until = this.network.clock.setTimeout(done, wait);
    const detach = this.network.broker.attach({
      commit: () => {
        if (this.network.broker.page(query).status === 202) return;
        this.network.clock.clearTimeout(until);
        this.network.later(0, done);
        detach();
      },
    });
  }

  #post(body, headers) {
    if (!body) return this.#answer(415, JSON.stringify({ code: "media-type-invalid" }));
    const messages = body.split("\n").map(JSON.parse);
    this.#answer(201, JSON.stringify({ receipts: this.network.broker.publishAll(messages, JSON.parse(headers["idempotency-key"])) }));
  }

  #answer(status, text) {
    this.#head(status);
    this.#write(text);
    this.#end();
  }

  #head(status) {
    this.toClient(() =>
      this.resolve({
        status,
        ok: status >= 200 && status < 300,
        headers: { get: () => null },
        json: () => this.#all().then(JSON.parse),
        body: { getReader: () => ({ read: () => this.#read() }) },
      }),
    );
  }

  /** Through a proxy that may hold bytes back, and in pieces cut anywhere. */
  #write(text) {
    this.buffered = (this.buffered ?? "") + text;
    const [, bound] = /^buffers (\d+|all)/.exec(this.mode) ?? [];
    if (bound === "all" || this.buffered.length < Number(bound ?? 0)) return;
    this.#flush();
  }

  #flush() {
    const bytes = new TextEncoder().encode(this.buffered ?? "");
    this.buffered = "";
    const cut = Math.floor(this.network.random() * bytes.length);
    for (const piece of [bytes.slice(0, cut), bytes.slice(cut)]) if (piece.length) this.toClient(() => this.#push({ done: false, value: piece }));
  }

  #end() {
    this.#flush();
    this.toClient(() => {
      this.#push({ done: true, value: undefined });
      this.release();
    });
  }

  #push(chunk) {
    const waiting = this.waiting.shift();
    if (waiting) waiting.resolve(chunk);
    else this.chunks.push(chunk);
  }

  #read() {
    if (this.chunks.length) return Promise.resolve(this.chunks.shift());
    if (this.error) return Promise.reject(this.error);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  async #all() {
    const decoder = new TextDecoder();
    for (let text = ""; ; ) {
      const { done, value } = await this.#read();
      if (done) return text;
      text += decoder.decode(value, { stream: true });
    }
  }

  break(error = new TypeError("network error")) {
    if (this.gone) return;
    this.error = error;
    this.release();
    this.reject(error);
    for (const { reject } of this.waiting.splice(0)) reject(error);
  }
}
