// What the Node.js peers share: the body of a POST goes to one function, and is answered 201.

/** @param {import("node:http").Server} server @param {(body: Buffer) => void} publish */
export function onPost(server, publish) {
  // Connections of publishers are used for as long as the run takes.
  server.keepAliveTimeout = 0;
  server.on("request", (request, response) => {
    if (request.method !== "POST") return;
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      publish(Buffer.concat(chunks));
      response.writeHead(201, { "content-length": 0 }).end();
    });
  });
}
