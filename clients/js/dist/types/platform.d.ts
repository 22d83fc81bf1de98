export interface Clock {
    /** Milliseconds since any time. Never set: it measures waits. */
    now(): number;
    /** Milliseconds since 1970, for times that others give, and to notice that the machine slept. */
    date(): number;
    setTimeout(run: () => void, ms: number): unknown;
    clearTimeout(timer: unknown): void;
}
/** `localStorage`, or anything like it. */
export interface Store {
    getItem(key: string): string | null;
    setItem(key: string, value: string): void;
}
/** A change of the network, as the system reports it. */
export interface Network {
    /** Tells networks apart where the system can, so that what worked on one isn't assumed of another. */
    id(): string;
    /** Calls back on changes, until the returned function is called. `shown`: the page came back to the front. */
    listen(tell: (event: "offline" | "network" | "shown") => void): () => void;
}
/** A `WebSocket`, as far as it is needed: that of the browser, or of a library. */
export interface Socket {
    onopen: ((event: any) => void) | null;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
    send(text: string): void;
    close(code?: number): void;
}
export interface Platform {
    fetch: typeof fetch;
    /** Left out where there is none; then the first transport is the stream. */
    WebSocket?: (new (url: string, protocol: string) => Socket) | undefined;
    clock: Clock;
    storage?: Store | undefined;
    network: Network;
    /** From 0 to 1. */
    random: () => number;
    /** A unique key. */
    unique: () => string;
}
export declare function defaultPlatform(): Platform;
