// Tokens (RFC 7519), signed by hand with node's own HMAC: what the broker verifies is not made by the broker's code.

import { createHmac } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';

import { Broker, emptyFolder } from './broker.mjs';

export const SECRET = 'a-secret-of-the-tests-of-at-least-32-bytes';
export const ISSUER = 'https://app.example';
export const AUDIENCE = 'https://rt.example';

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Seconds since 1970, from now. */
export const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;

/** A token that holds, but for what `claims` change; `null` leaves a claim out. */
export function token(claims = {}, { secret = SECRET, header = { alg: 'HS256', typ: 'JWT' } } = {}) {
  const all = { iss: ISSUER, aud: AUDIENCE, sub: 'alice', exp: inSeconds(3600), ...claims };
  const kept = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
  const message = `${part(header)}.${part(kept)}`;
  return `${message}.${createHmac('sha256', secret).update(message).digest('base64url')}`;
}

/** What a token grants by itself. */
export const granting = (grants, claims = {}, options) => token({ tailwire: grants, ...claims }, options);

/** The headers that carry a credential. */
export const as = (credential) => (credential ? { authorization: `Bearer ${credential}` } : {});

/** The section that the tests here share. */
export const SECTION = `
[access]
audience = "${AUDIENCE}"
leeway_seconds = 0

[[access.issuer]]
issuer = "${ISSUER}"
secrets = ["${SECRET}"]

[[access.issuer]]
issuer = "https://other.example"
secrets = ["another-secret-of-the-tests-of-32-bytes"]

[[access.rule]]
who = "anonymous"
subscribe = ["public/**"]

[[access.rule]]
who = "any"
subscribe = ["users/{sub}/**"]
publish = ["users/{sub}/**"]
manage = ["users/{sub}/**"]
`;

/** Starts a broker with a settings file beside its data. */
export async function guarded({ section = SECTION, settings = '', args = [] } = {}) {
  const folder = await emptyFolder();
  const config = path.join(folder, 'tailwire.toml');
  await writeFile(config, settings + section);
  const broker = await Broker.start({ args: ['--config', config, ...args] });
  return Object.assign(broker, { config });
}
