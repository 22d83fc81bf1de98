/** Names: how a term matches topics, and how terms stand in a URL. The broker judges whether a name is valid. */

/** Whether a topic matches one term: `*` is one segment, `**` at the end is one or more. */
export function matches(term: string, topic: string): boolean {
  const want = term.split("/");
  const have = topic.split("/");
  // No wildcard stands for a name of the broker's own.
  if (have[0]![0] === "$" && want[0] !== have[0]) return false;
  const rest = want.at(-1) === "**";
  if (rest ? have.length < want.length : have.length !== want.length) return false;
  return want.every((segment, i) => segment === have[i] || segment === "*" || (rest && i === want.length - 1));
}

/** A request for terms as one resource. */
export function streamPath(terms: Iterable<string>, query: object): string {
  const pairs = [...[...terms].map((term) => ["topic", term]), ...Object.entries(query).filter(([, value]) => value !== undefined)];
  return `stream?${new URLSearchParams(pairs as string[][])}`;
}
