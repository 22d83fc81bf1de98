export interface Clock {
    /** Milliseconds; only differences and storage use it. */
    now(): number;
    setTimeout(run: () => void, ms: number): unknown;
    clearTimeout(timer: unknown): void;
}
/** `localStorage`, or anything like it. */
export interface Store {
    getItem(key: string): string | null;
    setItem(key: string, value: string): void;
}
/** What the system says of the network. */
export interface Network {
    /** Tells networks apart where the system can, so that what worked on one isn't assumed of another. */
    id(): string;
    /** Calls back on changes, until the returned function is called. `shown`: the page came back to the front. */
    listen(tell: (event: "offline" | "network" | "shown") => void): () => void;
}
export interface Platform {
    fetch: typeof fetch;
    /** Left out where there is none; then the ladder begins with the stream. */
    WebSocket?: typeof WebSocket | undefined;
    clock: Clock;
    storage?: Store | undefined;
    network: Network;
    /** From 0 to 1. */
    random: () => number;
    /** A key that nobody else makes. */
    unique: () => string;
}
export declare function defaultPlatform(): Platform;
