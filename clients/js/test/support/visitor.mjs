/**
 * What an application of another runtime does: connects, subscribes, publishes, receives. Its arguments are the broker's
 * address and a transport; it prints what came, as JSON.
 */
import { connect } from "../../dist/tailwire.mjs";

const [url, transport] = globalThis.Deno?.args ?? process.argv.slice(2);
const hub = connect(url, { transports: [transport] });
const topic = `visitor/${transport}`;
const changes = [];
hub.on("transport", ({ to }) => changes.push(to));
const subscription = hub.subscribe(topic);
await new Promise((resolve) => subscription.on("caught_up", resolve));
for (const n of [1, 2]) await hub.publish(topic, { n });
await hub.publish(topic, new Uint8Array([0, 255]));
const got = [];
for await (const { data } of subscription) if (got.push(data instanceof Uint8Array ? [...data] : data) === 3) break;
hub.close();
console.log(JSON.stringify({ got, changes, state: hub.state }));
// A response that was aborted keeps Deno running until its next byte comes.
globalThis.Deno?.exit();
