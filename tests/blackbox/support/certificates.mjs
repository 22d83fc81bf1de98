// Certificates by `openssl`, and requests over TLS that trust one.

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { rename } from 'node:fs/promises';
import https from 'node:https';
import path from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);
/** How long an answer may take. A bound for failure, not a wait. */
const PATIENCE_MS = 30_000;

const openssl = (...args) => exec('openssl', args);
const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** A self-signed certificate; gives the paths of it and its key. */
export async function certificate(folder, name, hosts = ['localhost']) {
  const [cert, key] = [path.join(folder, `${name}.pem`), path.join(folder, `${name}-key.pem`)];
  const names = hosts.map((host) => `DNS:${host}`).join(',');
  await openssl('req', '-x509', ...EC, '-keyout', key, '-out', cert, '-days', '2', '-subj', `/CN=${name}`, '-addext', `subjectAltName=${names}`);
  return { cert, key };
}

/** A certificate that another one has signed, of a server for localhost or of a client. */
export async function signedCertificate(folder, name, authority, usage) {
  const [cert, key] = [path.join(folder, `${name}.pem`), path.join(folder, `${name}-key.pem`)];
  const signed = ['-CA', authority.cert, '-CAkey', authority.key, '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', `extendedKeyUsage=${usage}`, '-addext', 'subjectAltName=DNS:localhost'];
  await openssl('req', '-x509', ...EC, '-keyout', key, '-out', cert, '-days', '2', '-subj', `/CN=${name}`, ...signed);
  return { cert, key };
}

/** Puts a certificate in the place of another. */
export async function replace(place, by) {
  await rename(by.key, place.key);
  await rename(by.cert, place.cert);
}

/** Sends a request; gives the response once its head is there. */
export async function open(url, { body, method = body === undefined ? 'GET' : 'POST', ...options } = {}) {
  const request = https.request(url, { method, signal: AbortSignal.timeout(PATIENCE_MS), ...options });
  request.end(body);
  const [response] = await once(request, 'response');
  response.setEncoding('utf8');
  return response;
}

/** Sends a request and reads the whole answer. */
export async function get(url, options) {
  const response = await open(url, options);
  let text = '';
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode, headers: response.headers, text };
}

/** Reads a stream until what came matches; gives all of it. */
export async function until(response, pattern, text = '') {
  const late = setTimeout(() => response.destroy(new Error(`no ${pattern} in:\n${text.slice(-2000)}`)), PATIENCE_MS);
  for await (const chunk of response.iterator({ destroyOnReturn: false })) {
    text += chunk;
    if (pattern.test(text)) break;
  }
  clearTimeout(late);
  if (!pattern.test(text)) throw new Error(`the stream ended before ${pattern}:\n${text.slice(-2000)}`);
  return text;
}
