/** Remembers, for the next page load, which rung worked for an origin on a network. */
import type { Rung } from "./ladder.js";
import * as limits from "./limits.js";
import type { Surroundings } from "./transports/link.js";

export function recall(around: Surroundings): Rung | undefined {
  try {
    const [rung, at] = JSON.parse(around.storage!.getItem(name(around))!) as [Rung, number];
    return around.clock.date() - at < limits.memory ? rung : undefined;
  } catch {
    // No storage, nothing in it, or something else.
    return undefined;
  }
}

export function remember(rung: Rung, around: Surroundings): void {
  try {
    // What was tried first because it is remembered keeps its date: else a second choice would be remembered for ever.
    if (recall(around) !== rung) around.storage!.setItem(name(around), JSON.stringify([rung, around.clock.date()]));
  } catch {
    // None, full or forbidden: the next page starts from the top.
  }
}

function name({ http, network }: Surroundings): string {
  return `tailwire ${http.url("/")} ${network.id()}`;
}
