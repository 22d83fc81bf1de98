// Issuers with public keys: in PEM, and as they publish them; signed by node's own cryptography.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { emptyFolder, eventually } from './support/broker.mjs';
import { assertProblem, request } from './support/http.mjs';
import { as, AUDIENCE, guarded, inSeconds } from './support/tokens.mjs';

const KINDS = {
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};
const keys = Object.fromEntries(Object.entries(KINDS).map(([alg, make]) => [alg, make()]));

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

function token(alg, privateKey, header = {}, claims = {}) {
  const all = { iss: 'https://id.example', aud: AUDIENCE, sub: 'alice', exp: inSeconds(600), ...claims };
  const message = `${part({ alg, ...header })}.${part(all)}`;
  const hash = { ES256: 'sha256', ES384: 'sha384', RS256: 'sha256', EdDSA: null }[alg];
  return `${message}.${sign(hash, Buffer.from(message), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

const RULES = '[[access.rule]]\nwho = "any"\nsubscribe = ["users/{sub}/**"]\n';
const read = (broker, credential) => request(`${broker.base}/topics/users/alice/x`, { headers: as(credential) });

describe('keys in PEM', () => {
  let broker;
  before(async () => {
    const folder = await emptyFolder();
    const files = [];
    for (const [alg, { publicKey }] of Object.entries(keys)) {
      files.push(`"file:${path.join(folder, alg)}"`);
      await writeFile(path.join(folder, alg), publicKey.export({ type: 'spki', format: 'pem' }));
    }
    broker = await guarded({ section: `[access]\naudience = "${AUDIENCE}"\n[[access.issuer]]\nissuer = "https://id.example"\nkeys = [${files}]\n${RULES}` });
  });
  after(() => broker.stop());

  for (const [alg, make] of Object.entries(KINDS)) {
    test(`${alg} is verified`, async () => {
      assert.equal((await read(broker, token(alg, keys[alg].privateKey))).status, 202);
      assertProblem(await read(broker, token(alg, make().privateKey)), 401, 'token-invalid');
    });
  }
});

describe('keys that the issuer publishes', () => {
  /** A server of keys, which counts who asks. */
  async function publishing(t) {
    const site = { asked: 0, status: 200, document: { keys: [] } };
    site.server = createServer((_, response) => {
      site.asked += 1;
      response.writeHead(site.status, { 'content-type': 'application/json', location: `http://127.0.0.1:${site.port}/elsewhere` });
      response.end(JSON.stringify(site.document));
    });
    site.server.listen(0, '127.0.0.1');
    await once(site.server, 'listening');
    site.port = site.server.address().port;
    t.after(() => site.server.close());
    return site;
  }
  const jwk = (alg, kid) => ({ ...keys[alg].publicKey.export({ format: 'jwk' }), kid, use: 'sig' });
  const start = async (t, port) => {
    const section = `[access]\naudience = "${AUDIENCE}"\n[[access.issuer]]\nissuer = "https://id.example"\njwks = "http://127.0.0.1:${port}/keys"\n${RULES}`;
    const broker = await guarded({ section });
    t.after(() => broker.stop());
    return broker;
  };

  test('are fetched, and not again for each token with an unknown one', async (t) => {
    const site = await publishing(t);
    site.document = { keys: [jwk('ES256', 'one'), jwk('RS256', 'two'), { kty: 'oct', k: 'c2VjcmV0', kid: 'shared' }] };
    const broker = await start(t, site.port);
    assert.equal((await read(broker, token('ES256', keys.ES256.privateKey, { kid: 'one' }))).status, 202);
    assert.equal((await read(broker, token('RS256', keys.RS256.privateKey, { kid: 'two' }))).status, 202);
    const asked = site.asked;
    for (let n = 0; n < 20; n += 1) {
      const credential = token('ES256', keys.ES256.privateKey, { kid: `unknown-${n}` });
      assertProblem(await read(broker, credential), 401, 'token-invalid');
    }
    const hostile = { kid: 'one', jku: `http://127.0.0.1:${site.port}/evil` };
    assertProblem(await read(broker, token('ES256', keys.ES256.privateKey, hostile)), 401, 'token-invalid');
    assert.equal(site.asked, asked);
  });

  test('that can’t be had are 503, and are tried again', async (t) => {
    const site = await publishing(t);
    site.document = { keys: [jwk('ES256', 'one')] };
    site.status = 302;
    const broker = await start(t, site.port);
    const credential = token('ES256', keys.ES256.privateKey, { kid: 'one' });
    const refused = await read(broker, credential);
    assertProblem(refused, 503, 'access-unavailable');
    assert.ok(Number(refused.headers.get('retry-after')) >= 1);
    assert.equal(site.asked, 1, 'a redirect was followed');
    site.status = 200;
    await eventually(async () => (await read(broker, credential)).status === 202, 'the keys are not taken');
  });

  test('come over https, or from this machine', async () => {
    const section = (url) => `[access]\naudience = "a"\n[[access.issuer]]\nissuer = "i"\njwks = "${url}"\n`;
    await assert.rejects(guarded({ section: section('http://id.example/keys') }), /access\.issuer\[0\]\.jwks: over plain http/);
  });
});
