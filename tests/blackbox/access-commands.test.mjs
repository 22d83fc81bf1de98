// The commands beside a broker with access control: keys, tokens, what somebody may, and whether a configuration is sound.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { emptyFolder, run } from './support/broker.mjs';
import { request } from './support/http.mjs';
import { as, guarded, inSeconds, ISSUER, SECRET, token } from './support/tokens.mjs';

let broker;
before(async () => (broker = await guarded()));
after(() => broker.stop());

const ok = async (...args) => {
  const { code, stdout, stderr } = await run(args);
  assert.equal(code, 0, stderr || stdout);
  return stdout.trim();
};
const post = async (credential, topic) =>
  (await request(`${broker.base}/topics/${topic}`, { method: 'POST', body: '1', headers: as(credential) })).status;

describe('tailwire key', () => {
  const key = (...args) => ok('key', '--url', broker.base, '--data', broker.data, ...args);

  test('makes, lists and revokes keys of a running broker', async () => {
    const made = await key('create', '--name', 'ci', '--publish', 'builds/**');
    assert.match(made, /^twk_[a-z2-7]{16}_[a-z2-7]{52}$/);
    assert.equal(await post(made, 'builds/1'), 201);
    const [, id, secret] = made.split('_');
    const listed = await key('list');
    assert.match(listed, new RegExp(`^${id}  "ci"  publish \\["builds/\\*\\*"\\]$`, 'm'));
    assert.ok(!listed.includes(secret));
    await key('revoke', id);
    assert.equal(await post(made, 'builds/1'), 401);
    assert.match(await key('list'), new RegExp(`^${id}  "ci"  revoked`, 'm'));
  });

  test('says what is wrong', async () => {
    const refused = await run(['key', 'list', '--url', broker.base, '--token', token()]);
    assert.deepEqual([refused.code, /403 forbidden/.test(refused.stderr)], [2, true], refused.stderr);
    const nowhere = await run(['key', 'list', '--url', broker.base, '--data', '/nowhere']);
    assert.deepEqual([nowhere.code, /operator\.key/.test(nowhere.stderr)], [2, true], nowhere.stderr);
    const wrong = await run(['key', 'revoke', '../options/a', '--url', broker.base, '--data', broker.data]);
    assert.equal(wrong.code, 2);
  });
});

describe('tailwire token', () => {
  test('mints what the broker takes', async () => {
    const minted = await ok('token', 'mint', '--config', broker.config, '--subject', 'alice', '--publish', 'extra/**');
    assert.equal(await post(minted, 'users/alice/x'), 201);
    assert.equal(await post(minted, 'extra/x'), 201);
    assert.equal(await post(minted, 'users/bob/x'), 403);
    const shown = await ok('token', 'inspect', minted);
    assert.match(shown, /"sub": "alice"/);
    assert.match(await ok('token', 'verify', '--config', broker.config, minted), /^holds: "alice" of the issuer https:\/\/app\.example\nends: in 3[56]\d\d s/);
  });

  test('verifies what others sign, and names the check that fails', async () => {
    for (const [credential, expect] of [
      [token({ aud: 'x' }), /^refused: token-invalid: the token is for/],
      [token({ exp: inSeconds(-5) }), /^refused: token-expired: .*\d+ s/],
      [token({}, { secret: `${SECRET}!` }), /^refused: token-invalid: .*signature|sign/],
    ]) {
      const { code, stdout } = await run(['token', 'verify', '--config', broker.config, credential]);
      assert.deepEqual([code, expect.test(stdout)], [1, true], stdout);
    }
  });

  test('takes a secret from a file', async () => {
    const file = path.join(await emptyFolder(), 'secret');
    await writeFile(file, `${SECRET}\n`);
    const args = ['--key', `file:${file}`, '--issuer', ISSUER, '--audience', 'https://rt.example', '--subject', 'alice'];
    assert.equal(await post(await ok('token', 'mint', ...args), 'users/alice/x'), 201);
  });
});

describe('tailwire access check', () => {
  const check = (...args) => run(['access', 'check', '--config', broker.config, ...args]);

  test('says what would happen and why', async () => {
    for (const [args, code, expect] of [
      [['--token', token(), '--publish', 'users/alice/x'], 0, /^publish users\/alice\/x: permitted[\s\S]*decided by the grant users\/alice\/\*\*$/],
      [['--token', token(), '--publish', 'users/bob/x'], 1, /^publish users\/bob\/x: forbidden[\s\S]*no grant permits it$/],
      [['--subscribe', '**'], 0, /^subscribe \*\*: narrowed to public\/\*\*/],
      [['--token', token({ aud: 'x' }), '--subscribe', 'a'], 1, /refused: token-invalid/],
    ]) {
      const answer = await check(...args);
      assert.deepEqual([answer.code, expect.test(answer.stdout.trim())], [code, true], answer.stdout + answer.stderr);
      assert.ok(!answer.stdout.includes(SECRET));
    }
    assert.equal((await check('--token', token())).code, 2, 'nothing is asked');
  });
});

describe('tailwire config', () => {
  test('checks and shows, without secrets', async () => {
    assert.match(await ok('config', 'check', '--config', broker.config), /sound/);
    const shown = await ok('config', 'show', '--config', broker.config);
    assert.match(shown, /^listen = "127\.0\.0\.1:8245"$/m);
    assert.match(shown, /^audience = "https:\/\/rt\.example"$/m);
    assert.match(shown, /^subscribe = \["users\/\{sub\}\/\*\*"\]$/m);
    assert.ok(!shown.includes(SECRET), shown);
    const file = path.join(broker.data, 'wrong.toml');
    await writeFile(file, '[access]\nnonsense = 1\n');
    const { code, stderr } = await run(['config', 'check', '--config', file]);
    assert.deepEqual([code, /:2: unknown key `nonsense`/.test(stderr)], [2, true], stderr);
  });
});
