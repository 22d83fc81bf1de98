// Follows a filter through the JavaScript client by one transport, and prints messages and gaps, one a line.
import { connect } from '../../clients/js/dist/tailwire.mjs';

const [url, transport] = process.argv.slice(2);
const hub = connect(url, { transports: [transport] });
const subscription = hub.subscribe('crowd/**', { after: 'earliest' });
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
subscription.on('message', ({ cursor, data }) => print({ cursor, data }));
subscription.on('gap', (gap) => print({ gap }));
