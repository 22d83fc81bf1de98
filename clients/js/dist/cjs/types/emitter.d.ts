/** Listeners by event name. What a listener throws is its own affair: it is reported, and stops nobody else. */
export interface Emitter<Events> {
    /** Returns the function that takes the listener off again. */
    on<Name extends keyof Events>(name: Name, run: (value: Events[Name]) => void): () => void;
    has(name: keyof Events): boolean;
    emit<Name extends keyof Events>(name: Name, value: Events[Name]): void;
}
export declare function emitterOf<Events>(): Emitter<Events>;
