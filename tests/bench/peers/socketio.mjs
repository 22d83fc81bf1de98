// A broker as one writes it with Socket.IO: what is posted is emitted to every client. `node socketio.mjs <port>`

import { createServer } from "node:http";
import { Server } from "socket.io";

import { onPost } from "./post.mjs";

const server = createServer();
// No pings: the load generator doesn't answer them, and a run is shorter than their interval should be.
const io = new Server({ serveClient: false, transports: ["websocket"], pingInterval: 3_600_000 });
onPost(server, (body) => io.emit("message", body.toString()));
io.attach(server);
server.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
