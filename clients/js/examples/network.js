/** A network that can be broken by hand: a `fetch` and a `WebSocket` that do as they are told, before the real ones. */

/** What a person can break, and how. The first of each is a network that works. */
export const FAULTS = {
  websocket: ["fine", "refused", "opens, then silence", "cut after 3 s"],
  stream: ["fine", "held back by a proxy", "cut after 3 s"],
  http: ["fine", "502 Bad Gateway", "unplugged"],
};

export class BreakableNetwork {
  websocket = "fine";
  stream = "fine";
  http = "fine";
  /** What ends each connection that is open. */
  #cuts = new Set();

  /** Ends all that is open; what is opened after that meets the faults of then. */
  cut() {
    for (const end of [...this.#cuts]) end();
  }

  #open(end, fault) {
    this.#cuts.add(end);
    if (fault === "cut after 3 s") setTimeout(end, 3000);
    return () => this.#cuts.delete(end);
  }

  fetch = async (url, init) => {
    if (this.http === "unplugged") throw new TypeError("the network is unplugged");
    if (this.http === "502 Bad Gateway") return new Response("<h1>Bad Gateway</h1>", { status: 502 });
    const abort = new AbortController();
    const isStream = new URL(url).searchParams.get("format") === "sse";
    const close = this.#open(() => abort.abort(new TypeError("the connection was cut")), isStream && this.stream);
    init.signal?.addEventListener("abort", () => (close(), abort.abort(init.signal.reason)));
    const response = await fetch(url, { ...init, signal: abort.signal });
    if (!isStream) close();
    if (!isStream || this.stream !== "held back by a proxy") return response;
    // The head passes, and no line.
    return new Response(response.body.pipeThrough(new TransformStream({ transform() {} })), response);
  };

  /** To be given to the client as it is: a class. */
  WebSocket = ((network) =>
    class {
      constructor(url, protocol) {
        const { websocket, http } = network;
        const real = new WebSocket(url, protocol);
        this.real = real;
        const end = () => {
          forget();
          real.close();
          this.onclose?.({ code: 1006, reason: "" });
          this.onclose = this.onmessage = null;
        };
        const forget = network.#open(end, websocket);
        real.onopen = (event) => this.onopen?.(event);
        real.onmessage = (event) => websocket === "opens, then silence" || this.onmessage?.(event);
        real.onclose = (event) => (forget(), this.onclose?.(event));
        if (websocket === "refused" || http === "unplugged") queueMicrotask(end);
      }
      send(text) {
        this.real.send(text);
      }
      close(code) {
        this.real.close(code);
      }
    })(this);
}
