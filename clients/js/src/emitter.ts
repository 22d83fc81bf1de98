/** Listeners by event name. What a listener throws is its own affair: it is reported, and stops nobody else. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(value: never) => void>>();

  /** Returns the function that takes the listener off again. */
  on<Name extends keyof Events>(name: Name, run: (value: Events[Name]) => void): () => void {
    const set = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, set.add(run));
    return () => void set.delete(run);
  }

  has(name: keyof Events): boolean {
    return !!this.#listeners.get(name)?.size;
  }

  emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    for (const run of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (run as (value: Events[Name]) => void)(value);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
