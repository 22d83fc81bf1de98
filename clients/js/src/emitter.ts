/** Listeners by event name. An error that a listener throws is reported, and stops no other listener. */
export interface Emitter<Events> {
  /** Returns the function that takes the listener off again. */
  on<Name extends keyof Events>(name: Name, run: (value: Events[Name]) => void): () => void;
  has(name: keyof Events): boolean;
  emit<Name extends keyof Events>(name: Name, value: Events[Name]): void;
}

export function emitterOf<Events>(): Emitter<Events> {
  const listeners = new Set<[name: keyof Events, run: (value: never) => void]>();
  return {
    on(name, run) {
      const listener: [typeof name, typeof run] = [name, run];
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    has: (wanted) => [...listeners].some(([name]) => name === wanted),
    emit(wanted, value) {
      for (const [name, run] of [...listeners]) {
        // Runs at once; an error that it throws is a rejection without a handler, and so is reported.
        if (name === wanted) void (async () => run(value as never))();
      }
    },
  };
}
