// A broker as one writes it with `ws`: what is posted is sent to every WebSocket. `node ws.mjs <port>`

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

import { onPost } from "./post.mjs";

const server = createServer();
const sockets = new WebSocketServer({ server });
onPost(server, (body) => {
  for (const client of sockets.clients) client.send(body, { binary: false });
});
server.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
