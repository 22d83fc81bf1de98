/** Remembers, for the next page load, which transport worked for an origin on a network. */
import type { Transport } from "./fallback.js";
import * as limits from "./limits.js";
import type { Surroundings } from "./transports/link.js";

export function recall(around: Surroundings): Transport | undefined {
  try {
    const [transport, at] = JSON.parse(around.storage!.getItem(name(around))!) as [Transport, number];
    return around.clock.date() - at < limits.memory ? transport : undefined;
  } catch {
    // No storage, nothing in it, or something else.
    return undefined;
  }
}

export function remember(transport: Transport, around: Surroundings): void {
  try {
    // A transport that was tried first because it is remembered keeps its date: else a second choice would be remembered for ever.
    if (recall(around) !== transport) around.storage!.setItem(name(around), JSON.stringify([transport, around.clock.date()]));
  } catch {
    // None, full or forbidden: the next page starts from the top.
  }
}

function name({ http, network }: Surroundings): string {
  return `tailwire ${http.url("/")} ${network.id()}`;
}
