/** Names: how a term matches topics, and how terms stand in a URL. The broker judges whether a name is valid. */
/** Whether a topic matches one term: `*` is one segment, `**` at the end is one or more. */
export function matches(term: string, topic: string): boolean {
  const pattern = term.replace(/[^\w/*]/g, "\\$&").replace("**", ".+").replace(/\*/g, "[^/]+");
  // No wildcard stands for a name of the broker's own.
  return (topic[0] !== "$" || term[0] === "$") && RegExp(`^${pattern}$`).test(topic);
}

/** The address of a set of terms as one resource: the only place that knows how a filter is named. It may be too long for a URL. */
export function streamPath(terms: Iterable<string>, query: object): string {
  const pairs = [...[...terms].map((term) => ["topic", term]), ...Object.entries(query).filter(([, value]) => value !== undefined)];
  return `stream?${new URLSearchParams(pairs as string[][])}`;
}
