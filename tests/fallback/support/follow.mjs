// A subscriber, in Node and in a page alike: what reached it and when, and what the client said meanwhile.

/** Follows a topic to message `last`, by its `n`. `connect` is the built client's. */
export function follow(connect, url, topic, last, options = {}) {
  const began = Date.now();
  const hub = connect(url, options);
  const arrivals = [];
  const events = [];
  const say = (event) => events.push({ at: Date.now(), ...event });
  hub.on('transport', ({ from, to, why }) => say({ transport: to, from, why }));
  hub.on('state', (state) => say({ state }));
  const subscription = hub.subscribe(topic, { after: 'earliest' });
  subscription.on('gap', ({ from, to, reason }) => say({ gap: reason, from, to }));
  subscription.on('error', ({ message }) => say({ error: message }));
  const complete = new Promise((resolve) => {
    subscription.on('message', ({ data }) => {
      arrivals.push({ n: data.n, at: Date.now() });
      if (data.n === last) resolve();
    });
  });
  return {
    /** Resolves once the last message is here. */
    complete,
    report: () => structuredClone({ began, arrivals, events, state: hub.state }),
    close: () => hub.close(),
  };
}
