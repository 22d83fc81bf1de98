// A process of its own, because Node reads NODE_EXTRA_CA_CERTS when it starts: listens to a topic by the JavaScript client over
// the transport that is named, or by `eventsource`, publishes, and prints what came.

import { EventSource } from 'eventsource';
import { WebSocket } from 'ws';

import { connect } from '../../../clients/js/dist/tailwire.mjs';

const [, , base, transport] = process.argv;
const topic = `client/${transport}`;
const late = setTimeout(() => process.exit(3), 20_000);

if (transport === 'eventsource') {
  const source = new EventSource(`${base}/topics/${topic}`);
  source.addEventListener('tailwire.caught_up', () => fetch(`${base}/topics/${topic}`, { method: 'POST', body: 'over eventsource' }));
  source.onmessage = ({ data }) => {
    console.log(data);
    source.close();
    clearTimeout(late);
  };
} else {
  const hub = connect(`${base}/`, { transports: [transport], WebSocket });
  hub.on('failure', ({ why }) => console.error(why));
  const subscription = hub.subscribe(topic, { after: 'earliest' });
  await hub.publish(topic, { text: `over ${transport}` });
  for await (const message of subscription) {
    console.log(message.data.text);
    break;
  }
  hub.close();
  clearTimeout(late);
}
