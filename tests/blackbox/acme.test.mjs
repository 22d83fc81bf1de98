// ACME against Pebble, the authority for tests of Let's Encrypt: the broker proves its name by TLS-ALPN-01 on its own listener.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';

import { Broker, emptyFolder, eventually } from './support/broker.mjs';
import { certificate, get, signedCertificate } from './support/certificates.mjs';

/** Ports that are free: Pebble and the broker have to know each other's before either runs. */
async function freePorts(count) {
  const servers = [];
  for (let made = 0; made < count; made += 1) {
    const server = createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.push(server);
  }
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

test('a certificate is got, kept, and shown, and got once only', async (t) => {
  const folder = await emptyFolder();
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [own, directory, management] = await freePorts(3);
  const root = await certificate(folder, 'root');
  const pebbleTls = await signedCertificate(folder, 'pebble', root, 'serverAuth');
  const pebbleConfig = path.join(folder, 'pebble.json');
  const pebble = {
    listenAddress: `127.0.0.1:${directory}`,
    managementListenAddress: `127.0.0.1:${management}`,
    certificate: pebbleTls.cert,
    privateKey: pebbleTls.key,
    httpPort: 1,
    tlsPort: own,
  };
  await writeFile(pebbleConfig, JSON.stringify({ pebble }));
  const env = { ...process.env, PEBBLE_VA_NOSLEEP: '1', PEBBLE_VA_ALWAYS_VALID: '0', PEBBLE_WFE_NONCEREJECT: '0' };
  const authority = spawn('pebble', ['-config', pebbleConfig], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => authority.kill('SIGKILL'));
  let said = '';
  authority.stdout.on('data', (chunk) => (said += chunk));
  authority.stderr.on('data', (chunk) => (said += chunk));
  await eventually(() => /Listening on/i.test(said), 'Pebble does not listen');

  const data = path.join(folder, 'data');
  const config = path.join(folder, 'tailwire.toml');
  await writeFile(
    config,
    `listen = '127.0.0.1:${own}'\ndata = '${data}'\n[tls.acme]\ndomains = ['localhost']\ncontact = ['a@example.com']\n` +
      `directory = 'https://localhost:${directory}/dir'\ndirectory_ca = '${root.cert}'\naccept_terms = true\n`,
  );
  const broker = await Broker.start({ data, serve: ['serve', '--config', config] });
  t.after(() => broker.stop());
  await eventually(() => /got a certificate by ACME/.test(broker.stderr), 'no certificate came');
  assert.doesNotMatch(broker.stderr, /got no certificate/);

  const issuer = await get(`https://localhost:${management}/roots/0`, { ca: await readFile(root.cert), family: 4 });
  const trusted = { ca: issuer.text, family: 4, agent: false };
  assert.equal((await get(`https://localhost:${own}/healthz`, trusted)).status, 200);
  const kept = path.join(data, 'tls-acme', `localhost-${directory}-dir`);
  assert.equal((await stat(path.join(kept, 'key.pem'))).mode & 0o777, 0o600);
  assert.equal((await stat(path.join(kept, 'account.json'))).mode & 0o777, 0o600);

  // A restart shows what is kept, and asks for nothing.
  const orders = () => said.match(/POST \/order-plz/g).length;
  const before = orders();
  await broker.restart();
  assert.equal((await get(`https://localhost:${own}/healthz`, trusted)).status, 200);
  assert.equal(orders(), before);
});
