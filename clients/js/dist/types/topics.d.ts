/** Names: how a term matches topics, and how terms stand in a URL. The broker judges whether a name is valid. */
/** Whether a topic matches one term: `*` is one segment, `**` at the end is one or more. */
export declare function matches(term: string, topic: string): boolean;
/** The address of a set of terms as one resource: the only place that knows how a filter is named. It may be too long for a URL. */
export declare function streamPath(terms: Iterable<string>, query: object): string;
