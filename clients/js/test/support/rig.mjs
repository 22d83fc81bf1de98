/** A simulated broker, a network, and hubs on them, on virtual time. */
import { connect } from "../../.build/index.js";
import { VirtualClock, randomOf } from "./clock.mjs";
import { SimulatedBroker } from "./simulated-broker.mjs";
import { SimulatedNetwork } from "./simulated-network.mjs";

export const TRANSPORTS = ["websocket", "stream", "long-poll", "poll"];

export function rig() {
  const clock = new VirtualClock();
  const random = randomOf(1);
  const broker = new SimulatedBroker(clock);
  const network = new SimulatedNetwork(clock, random, broker);
  const surroundings = { clock, random, fetch: network.fetch, WebSocket: network.WebSocket, storage: undefined, unique: () => `k-${random()}`, network: { id: () => "", listen: () => () => {} } };
  const open = (options) => connect("https://broker.example/", { ...surroundings, ...options });
  const publish = (from, to) => {
    for (let n = from; n < to; n++) broker.publish("a", { n });
  };
  return { clock, broker, network, open, publish };
}

export const upTo = (count, from = 0) => Array.from({ length: count - from }, (_, n) => n + from);
