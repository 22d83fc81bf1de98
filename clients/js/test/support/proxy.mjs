/**
 * A TCP proxy before the real broker with the faults of real ones. It looks at the head of each connection's first
 * request to tell WebSockets from the rest. A connection keeps the mode in which it was opened.
 */
import { connect, createServer } from "node:net";

export class Proxy {
  mode = "fine";
  #sockets = new Set();

  static async to(port) {
    const proxy = new Proxy();
    proxy.upstream = port;
    proxy.server = createServer((client) => proxy.#accept(client)).listen(0, "127.0.0.1");
    await new Promise((resolve) => proxy.server.once("listening", resolve));
    proxy.port = proxy.server.address().port;
    proxy.url = `http://127.0.0.1:${proxy.port}/`;
    return proxy;
  }

  /** From here on new connections are treated so; with `cut`, those that are open end. */
  turn(mode, cut = true) {
    this.mode = mode;
    if (cut) for (const socket of this.#sockets) socket.destroy();
  }

  close() {
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(client) {
    const { mode } = this;
    this.#keep(client);
    if (mode === "refuses all") return client.destroy();
    client.once("data", (head) => {
      const websocket = /upgrade: websocket/i.test(head.toString("latin1"));
      if (websocket && mode === "refuses upgrade") return client.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
      if (mode === "502") return client.end("HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbad");
      const broker = connect(this.upstream, "127.0.0.1");
      this.#keep(broker);
      let text = head;
      if (websocket && mode === "strips upgrade") text = Buffer.from(head.toString("latin1").replace(/(upgrade|connection): [^\r]*\r\n/gi, ""), "latin1");
      broker.write(text);
      client.on("data", (data) => !(websocket && mode === "half open") && broker.write(data));
      broker.on("data", this.#passing(mode, websocket, client));
      for (const [from, to] of [[client, broker], [broker, client]]) from.on("close", () => (from === broker ? this.#endOf(mode, client) : to.destroy()));
      const [, cut] = /^cuts (websockets|all) after (\d+) ms/.exec(mode) ?? [];
      const ms = Number(/(\d+) ms/.exec(mode)?.[1]);
      if (cut === "all" || (cut && websocket)) setTimeout(() => client.destroy(), ms);
    });
  }

  /** Passes the broker's bytes on, as this mode does. */
  #passing(mode, websocket, client) {
    const [, bound] = /^buffers (\d+|all)/.exec(mode) ?? [];
    let buffered = [];
    client.buffered = () => buffered;
    let frames = false;
    return (data) => {
      const endless = /text\/event-stream/.test(data.toString("latin1")) || frames;
      if (websocket && mode === "swallows frames") {
        // The handshake's answer passes, and nothing after it.
        if (!frames) client.write(data.subarray(0, data.indexOf("\r\n\r\n") + 4));
        frames = true;
        return;
      }
      if (bound && !websocket && endless) {
        frames = true;
        buffered.push(data);
        const size = buffered.reduce((sum, { length }) => sum + length, 0);
        if (bound === "all" || size < Number(bound)) return;
        client.write(Buffer.concat(buffered));
        buffered = [];
        return;
      }
      client.write(data);
    };
  }

  #endOf(mode, client) {
    const buffered = client.buffered?.() ?? [];
    client.end(buffered.length ? Buffer.concat(buffered) : undefined);
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
  }
}
