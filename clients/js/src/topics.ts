/** Names: how a term matches topics, and how terms stand in a URL. The broker judges whether a name is valid. */

/** Whether a topic matches one term: `*` is one segment, `**` at the end is one or more. */
export function matches(term: string, topic: string): boolean {
  const want = term.split("/");
  const have = topic.split("/");
  const from = (i: number): boolean => {
    if (i === want.length || i === have.length) return want.length === have.length;
    return want[i] === "**" || ((want[i] === "*" || want[i] === have[i]) && from(i + 1));
  };
  // No wildcard stands for a name of the broker's own.
  return (topic[0] !== "$" || want[0] === have[0]) && from(0);
}

/** A request for terms as one resource. */
export function streamPath(terms: Iterable<string>, query: object): string {
  const pairs = [...[...terms].map((term) => ["topic", term]), ...Object.entries(query).filter(([, value]) => value !== undefined)];
  return `stream?${new URLSearchParams(pairs as string[][])}`;
}
