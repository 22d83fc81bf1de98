/**
 * How soon messages come again after an outage: a real broker is killed and started again, with hubs on each transport.
 * Not a test: `BROKER=… node test/measure-outages.mjs [seconds …]` prints, for each transport and outage, the median and the worst
 * time from the broker being ready to the first new message, in milliseconds. `HUBS=n` are on each transport.
 */
import WebSocket from "ws";
import { connect } from "../dist/tailwire.mjs";
import { Broker } from "./support/broker.mjs";

const TRANSPORTS = ["websocket", "stream", "long-poll", "poll", "all"];
const outages = process.argv.slice(2).map(Number);
const hubs_each = Number(process.env.HUBS ?? 5);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const broker = await Broker.start();
const followers = TRANSPORTS.flatMap((transport) =>
  Array.from({ length: hubs_each }, () => {
    const hub = connect(broker.url, { WebSocket, ...(transport !== "all" && { transports: [transport] }) });
    const follower = { transport, hub, last: -1, at: 0, first: new Map() };
    hub.subscribe("t").on("message", ({ data: { outage } }) => {
      if (!follower.first.has(outage)) follower.first.set(outage, performance.now());
    });
    return follower;
  }),
);
let outage = 0;
let publishing = true;
const publisher = (async () => {
  while (publishing) {
    // Not by a hub: it is to be no help to the others.
    await fetch(`${broker.url}topics/t`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ outage }) }).catch(() => {});
    await sleep(100);
  }
})();
const missing = () => followers.filter(({ first }) => !first.has(outage)).length;
while (missing()) await sleep(10);
for (const seconds of outages.length ? outages : [2, 5, 15, 40]) {
  // Connections that last for less than 10 s don't end an outage.
  await sleep(11_000);
  await broker.kill("SIGKILL");
  await sleep(seconds * 1000);
  outage++;
  await broker.start();
  const ready = performance.now();
  while (missing()) await sleep(10);
  for (const transport of TRANSPORTS) {
    const times = followers.filter((each) => each.transport === transport).map(({ first }) => Math.round(first.get(outage) - ready)).sort((a, b) => a - b);
    const states = new Set(followers.filter((each) => each.transport === transport).map(({ hub }) => hub.state));
    console.log(`${seconds} s, ${transport}: median ${times[times.length >> 1]}, worst ${times.at(-1)} (${[...states]})`);
  }
}
publishing = false;
await publisher;
for (const { hub } of followers) hub.close();
await broker.stop();
