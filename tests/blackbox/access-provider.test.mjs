// Tokens that others make: a provider of OpenID Connect as it comes, and a library that such providers are made with.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { CompactSign, EncryptJWT, exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose';
import Provider from 'oidc-provider';

import { emptyFolder } from './support/broker.mjs';
import { assertProblem, request } from './support/http.mjs';
import { LineSocket } from './support/line-socket.mjs';
import { as, AUDIENCE, guarded } from './support/tokens.mjs';

const RULES = '[[access.rule]]\nwho = "any"\nsubscribe = ["users/{sub}/**"]\npublish = ["users/{sub}/**"]\n';
const read = (broker, credential, user = 'alice') => request(`${broker.base}/topics/users/${user}/x`, { headers: as(credential) });

describe('a provider of OpenID Connect', () => {
  let broker;
  let server;
  let issuer;
  before(async () => {
    server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    issuer = `http://127.0.0.1:${server.address().port}`;
    const { privateKey } = await generateKeyPair('RS256', { extractable: true });
    const resource = (audience) => ({ scope: 'api', audience, accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: 'RS256' } } });
    const provider = new Provider(issuer, {
      clients: [{ client_id: 'app', client_secret: 'a secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [] }],
      jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: 'own', use: 'sig', alg: 'RS256' }] },
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        resourceIndicators: { enabled: true, getResourceServerInfo: (_, audience) => resource(audience) },
      },
    });
    server.on('request', provider.callback());
    const section = `[access]\naudience = "${AUDIENCE}"\n[[access.issuer]]\nissuer = "${issuer}"\njwks = "${issuer}/jwks"\n${RULES}`;
    broker = await guarded({ section });
  });
  after(async () => {
    await broker?.stop();
    server?.closeAllConnections();
    server?.close();
  });

  const granted = async (resource) => {
    const answer = await fetch(`${issuer}/token`, {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'api', resource }),
      headers: { authorization: `Basic ${btoa('app:a%20secret')}` },
    });
    const body = await answer.json();
    assert.equal(answer.status, 200, JSON.stringify(body));
    return body.access_token;
  };

  test('gives access tokens that are taken as they are, for what rules say', async (t) => {
    const credential = await granted(AUDIENCE);
    assert.equal((await read(broker, credential, 'app')).status, 202);
    assertProblem(await read(broker, credential, 'alice'), 403, 'forbidden');
    const socket = await LineSocket.open(t, broker.base, '/stream', { headers: as(credential) });
    assert.equal((await socket.ask({ kind: 'publish', topic: 'users/app/x', data: 'x' })).kind, 'ok');
    assert.equal((await socket.ask({ kind: 'publish', topic: 'users/alice/x', data: 'x' })).code, 'forbidden');
  });

  test('gives none that is for another resource', async () => {
    assertProblem(await read(broker, await granted('https://other.example'), 'app'), 401, 'token-invalid');
  });
});

describe('a library', () => {
  const secret = Buffer.from('a-secret-of-the-tests-of-at-least-32-bytes');
  const ALGORITHMS = ['RS256', 'ES256', 'ES384', 'EdDSA'];
  const keys = {};
  let broker;
  before(async () => {
    const folder = await emptyFolder();
    const files = [];
    for (const algorithm of ALGORITHMS) {
      keys[algorithm] = await generateKeyPair(algorithm, { extractable: true });
      const file = path.join(folder, algorithm);
      await writeFile(file, await exportSPKI(keys[algorithm].publicKey));
      files.push(`"file:${file}"`);
    }
    const issuers = `[[access.issuer]]\nissuer = "https://keys.example"\nkeys = [${files}]\n[[access.issuer]]\nissuer = "https://secrets.example"\nsecrets = ["${secret}"]\n`;
    broker = await guarded({ section: `[access]\naudience = "${AUDIENCE}"\n${issuers}${RULES}` });
  });
  after(() => broker?.stop());

  const claims = (made, issuer = 'https://keys.example') => made.setIssuer(issuer).setAudience(AUDIENCE).setSubject('alice').setIssuedAt().setExpirationTime('10m');

  for (const algorithm of ALGORITHMS) {
    test(`signs by ${algorithm}, which is verified`, async () => {
      const sign = (key, header = {}) => claims(new SignJWT({})).setProtectedHeader({ alg: algorithm, typ: 'at+jwt', ...header }).sign(key);
      assert.equal((await read(broker, await sign(keys[algorithm].privateKey))).status, 202);
      const other = await generateKeyPair(algorithm);
      assertProblem(await read(broker, await sign(other.privateKey)), 401, 'token-invalid');
      // The key that a token brings along is nobody's.
      const jwk = await exportJWK(keys[algorithm].publicKey);
      assertProblem(await read(broker, await sign(other.privateKey, { jwk })), 401, 'token-invalid');
    });
  }

  test('signs by a secret, and the secret of one issuer is none of another', async () => {
    const sign = (issuer) => claims(new SignJWT({}), issuer).setProtectedHeader({ alg: 'HS256' }).sign(secret);
    assert.equal((await read(broker, await sign('https://secrets.example'))).status, 202);
    assertProblem(await read(broker, await sign('https://keys.example')), 401, 'token-invalid');
  });

  test('makes what is not signed, or by a public key as if it were a secret: it is refused', async () => {
    const spki = Buffer.from(await exportSPKI(keys.RS256.publicKey));
    const payload = Buffer.from(JSON.stringify({ iss: 'https://keys.example', aud: AUDIENCE, sub: 'alice', exp: Math.floor(Date.now() / 1000) + 600 }));
    for (const credential of [
      claims(new UnsecuredJWT({})).encode(),
      await claims(new SignJWT({})).setProtectedHeader({ alg: 'HS256' }).sign(spki),
      await claims(new EncryptJWT({})).setProtectedHeader({ alg: 'dir', enc: 'A256GCM' }).encrypt(secret.subarray(0, 32)),
      await new CompactSign(payload).setProtectedHeader({ alg: 'RS256', crit: ['b64'], b64: true }).sign(keys.RS256.privateKey),
    ]) {
      assertProblem(await read(broker, credential), 401, 'token-invalid');
    }
  });
});
