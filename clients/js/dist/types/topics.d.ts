/** Names: how a term matches topics, and how terms stand in a URL. The broker judges whether a name is valid. */
/** Whether a topic matches one term: `*` is one segment, `**` at the end is one or more. */
export declare function matches(term: string, topic: string): boolean;
/** A request for terms as one resource. */
export declare function streamPath(terms: Iterable<string>, query: object): string;
