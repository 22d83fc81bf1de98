/** Whether a topic matches one term: `*` is one segment, `**` at the end is one or more. */
export declare function matches(term: string, topic: string): boolean;
/**
 * The address of a set of terms as one resource: the only place that knows how a filter is named. Throws where it would be
 * too long, with so much `room` for what comes later.
 */
export declare function streamPath(terms: Iterable<string>, query: object, room?: number): string;
