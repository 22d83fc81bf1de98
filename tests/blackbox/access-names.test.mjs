// The name that is authorised is the name that is stored, however it is spelled; and a page is known by its whole origin.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { request } from './support/http.mjs';
import { exchange } from './support/raw.mjs';
import { as, granting, guarded } from './support/tokens.mjs';

/** A seeded sequence, so that a failure can be repeated. */
function* drawn(seed) {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state;
  }
}

/** Other spellings of a name: of bytes by their number, of segments by what paths make of them, of characters by others like them. */
function spellings(name, count) {
  const random = drawn(7);
  const pick = (list) => list[random.next().value % list.length];
  const hex = (text) => [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
  const ways = [
    (text) => text.replace(/[a-z]/g, (letter) => pick([letter, hex(letter), hex(letter).toUpperCase()])),
    (text) => text.replace(/\//g, () => pick(['/', '//', '%2F', '%2f', '/./', '/x/../', '%5C', '\\', '/%2E/', '/.%2e/', '%252F', ';/', '/;x/'])),
    (text) => text.replace(/[a-z]/g, (letter) => pick([letter, letter, letter.toUpperCase(), String.fromCharCode(letter.charCodeAt(0) + 0xfee0)])),
    (text) => pick(['', '/', './', '../', '%00', ' ', '%20', '%09', '%EF%BB%BF', '%C2%AD', '%E2%80%8B', '$', '%24', '*', '%2A', '**/']) + text,
    (text) => text + pick(['', '/', '/.', '/..', '%00', ' ', '%20', '?x', '#x', ';a=b', '%3F', '%23', '%0D%0A', '.json', '*', '/**', '%2F%2A%2A', '%CC%81']),
    (text) => text.replace(/a/g, () => pick(['a', '%C3%A1', 'a%CC%81', '%D0%B0', '%C0%A1', '%ff', '%E0%80%A1', '%u0061', '%', '%6', '+'])),
  ];
  const all = new Set([name]);
  while (all.size < count) {
    let text = name;
    for (let n = 1 + (random.next().value % 3); n > 0; n -= 1) text = pick(ways)(text);
    all.add(text);
  }
  return [...all];
}

describe('500 spellings of a name', () => {
  let broker;
  const mine = 'users/alice/data';
  const key = granting({ subscribe: ['**', '*', '$x/**'], publish: [], manage: [] }, { sub: 'reader' });
  const writer = granting({ publish: [mine], manage: [mine], subscribe: [mine] }, { sub: 'writer' });
  before(async () => (broker = await guarded()));
  after(() => broker.stop());

  test('are this name, or another that is refused, or none', async (t) => {
    const counts = {};
    for (const spelling of spellings(mine, 500)) {
      // By hand: a client's library would tidy it up.
      const target = `/topics/${spelling}`.replace(/[\u0080-\uffff]/g, (letter) => encodeURIComponent(letter));
      const send = async (method, body = '') => {
        const lines = [`${method} ${target} HTTP/1.1`, `Host: localhost:${broker.port}`, `Authorization: Bearer ${writer}`, 'Connection: close', `Content-Length: ${body.length}`];
        const text = await exchange(t, broker.port, `${lines.join('\r\n')}\r\n\r\n${body}`);
        return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)[1]), text };
      };
      const { status, text } = await send('POST', spelling.length.toString());
      counts[status] = (counts[status] ?? 0) + 1;
      assert.ok([201, 400, 403, 404, 405].includes(status), `${status} for ${JSON.stringify(target)}`);
      if (status === 201) assert.equal(JSON.parse(text.slice(text.indexOf('\r\n\r\n'))).topic, mine, target);
      // What may not be written may not be read or removed by that spelling either.
      const read = await send('GET');
      const removed = await send('DELETE');
      // A deletion minds a parameter that it doesn't know: it might be meant to spare something.
      if (status === 201) assert.equal(removed.status, target.includes('?') ? 400 : 204, target);
      else assert.ok(read.status >= 400 && removed.status >= 400, `${read.status} ${removed.status} for ${JSON.stringify(target)}`);
    }
    assert.ok(counts[201] > 20 && counts[400] > 100 && counts[403] > 20, JSON.stringify(counts));
    const { json } = await request(`${broker.base}/topics`, { headers: as(key) });
    assert.deepEqual(json.topics.map(({ topic }) => topic).filter((topic) => !topic.startsWith('$access/')), [mine]);
  });
});

describe('origins', () => {
  let broker;
  before(async () => (broker = await guarded({ settings: 'allow_origins = ["https://app.example", "http://two.example:8080"]' })));
  after(() => broker.stop());

  const ask = async (t, origin, { upgrade = false } = {}) => {
    const lines = [
      upgrade ? 'GET /stream HTTP/1.1' : 'POST /topics/users/alice/x HTTP/1.1',
      `Host: localhost:${broker.port}`,
      `Authorization: Bearer ${granting({ publish: ['users/alice/x'] })}`,
      ...(origin === undefined ? [] : [origin].flat().map((value) => `Origin: ${value}`)),
      ...(upgrade ? ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='] : ['Connection: close', 'Content-Length: 1']),
    ];
    const text = await exchange(t, broker.port, Buffer.from(`${lines.join('\r\n')}\r\n\r\n${upgrade ? '\x88\x80\x01\x02\x03\x04' : 'x'}`, 'latin1'));
    return Number(/^HTTP\/1\.1 (\d+)/.exec(text)[1]);
  };

  test('those that are allowed are allowed, and nothing that looks like them', async (t) => {
    const port = broker.port;
    for (const origin of [undefined, `http://localhost:${port}`, 'https://app.example', 'http://two.example:8080']) {
      assert.deepEqual([await ask(t, origin), await ask(t, origin, { upgrade: true })], [201, 101], origin);
    }
    for (const origin of [
      'null',
      '',
      '*',
      'https://app.example.evil.example',
      'https://evil-app.example',
      'https://app.example:8443',
      'https://app.example:443',
      'https://app.example/',
      'https://app.example.',
      'https://APP.example',
      'http://app.example',
      'HTTPS://app.example',
      'https://user@app.example',
      'https://app.example@evil.example',
      'https://app.example#',
      'https://app.example https://evil.example',
      'https://app.example,https://evil.example',
      ' https://evil.example',
      'http://two.example',
      'http://two.example:80800',
      'file://',
      'app.example',
      'https://xn--pp-fka.example',
      `https://localhost:${port + 1}`,
      `http://127.0.0.1:${port}`,
      `http://localhost:${port}.evil.example`,
      `http://localhost:${port}@evil.example`,
      `ws://two.example:8080`,
    ]) {
      assert.deepEqual([await ask(t, origin), await ask(t, origin, { upgrade: true })], [403, 403], origin);
    }
    for (const upgrade of [false, true]) {
      assert.equal(await ask(t, ['https://app.example', 'https://evil.example'], { upgrade }), 400, 'two of them');
    }
  });
});
