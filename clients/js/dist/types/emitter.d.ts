/** Listeners by event name. An error that a listener throws is reported, and stops no other listener. */
export interface Emitter<Events> {
    /** Returns the function that takes the listener off again. */
    on<Name extends keyof Events>(name: Name, run: (value: Events[Name]) => void): () => void;
    has(name: keyof Events): boolean;
    emit<Name extends keyof Events>(name: Name, value: Events[Name]): void;
}
export declare function emitterOf<Events>(): Emitter<Events>;
