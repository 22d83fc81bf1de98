// The command line: settings and where they come from, and how the broker says that it can't start.

import assert from 'node:assert/strict';
import { access, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Broker, emptyFolder, run } from './support/broker.mjs';
import { publish, request } from './support/http.mjs';

let folder;
before(async () => (folder = await emptyFolder()));
after(() => rm(folder, { recursive: true, force: true }));

let counter = 0;
const freshFolder = () => path.join(folder, `data-${(counter += 1)}`);

/** A settings file with this text. */
async function settings(text) {
  const file = path.join(folder, `settings-${(counter += 1)}.toml`);
  await writeFile(file, text);
  return file;
}

/** Asserts that a start fails: with words for people, in few lines, without a panic. */
async function assertFails(args, options, ...patterns) {
  const { code, signal, stdout, stderr } = await run(args, options);
  assert.equal(signal, null, stderr);
  assert.ok(code > 0, 'it succeeded');
  assert.ok(!/panicked|RUST_BACKTRACE/.test(stderr), stderr);
  assert.equal(stdout, '', 'an error is no output');
  for (const pattern of patterns) assert.match(stderr, pattern);
  return code;
}

const serve = (...args) => ['serve', '--listen', '127.0.0.1:0', '--data', freshFolder(), ...args];

describe('what it says of itself', () => {
  test('--help names the commands, and serve --help every setting with its variable', async () => {
    const all = await run(['--help']);
    assert.deepEqual([all.code, all.stderr], [0, '']);
    assert.match(all.stdout, /\bserve\b/);
    const { code, stdout } = await run(['serve', '--help']);
    assert.equal(code, 0);
    for (const word of ['--listen', '--data', '--config', '--allow-origin', '--log-level', 'TAILWIRE_LISTEN', 'TAILWIRE_DATA']) {
      assert.ok(stdout.includes(word), word);
    }
  });

  test('--version', async () => {
    const { code, stdout } = await run(['--version']);
    assert.equal(code, 0);
    assert.match(stdout, /^tailwire \d+\.\d+\.\d+\n$/);
  });

  test('nothing to do is a failure that shows the help', async () => {
    const { code, stderr } = await run([]);
    assert.equal(code, 2);
    assert.match(stderr, /Usage: tailwire/);
  });
});

describe('what it cannot do', () => {
  test('serve data that another broker serves; that one goes on', async (t) => {
    const broker = await Broker.start();
    t.after(() => broker.stop());
    await assertFails(['serve', '--listen', '127.0.0.1:0', '--data', broker.data], {}, /in use|another|locked/i, new RegExp(broker.data));
    await publish(broker.base, 'a', 'x');
  });

  test('listen on a port that is in use', async (t) => {
    const server = createServer().listen(0, '127.0.0.1');
    t.after(() => server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address();
    await assertFails(['serve', '--listen', `127.0.0.1:${port}`, '--data', freshFolder()], {}, new RegExp(`${port}`), /in use/i);
  });

  test('keep data below a file', async () => {
    const file = await settings('');
    const data = path.join(file, 'below');
    await assertFails(['serve', '--listen', '127.0.0.1:0', '--data', data], {}, new RegExp(data));
  });

  test('listen on what is no address', async () => {
    for (const address of ['nonsense', '127.0.0.1:99999', '127.0.0.1:', '::::', '']) {
      await assertFails(['serve', '--listen', address, '--data', freshFolder()], {}, /listen/i);
    }
  });

  test('take an unknown flag or command; it names the nearest', async () => {
    assert.equal(await assertFails(serve('--lisen', '1'), {}, /--listen/), 2);
    assert.equal(await assertFails(['serv'], {}, /serve/), 2);
  });
});

describe('the settings file', () => {
  test('an unknown key is refused, and the nearest named', async () => {
    await assertFails(serve('--config', await settings('lisen = "127.0.0.1:0"\n')), {}, /lisen/, /`?listen`?/);
    await assertFails(serve('--config', await settings('threads.frnt = 1\n')), {}, /frnt/, /front/);
  });

  test('a value of the wrong kind is refused, with its key', async () => {
    await assertFails(serve('--config', await settings('listen = true\n')), {}, /listen/);
    await assertFails(serve('--config', await settings('log_level = "loud"\n')), {}, /log_level/, /loud/);
    await assertFails(serve('--config', await settings('allow_origins = ["not an origin"]\n')), {}, /allow_origins/);
  });

  test('what is no TOML, or not there, is refused, with its name', async () => {
    const broken = await settings('listen = \n');
    await assertFails(serve('--config', broken), {}, new RegExp(broken));
    const absent = path.join(folder, 'absent.toml');
    await assertFails(serve('--config', absent), {}, new RegExp(absent));
  });
});

describe('variables', () => {
  test('an unknown one is refused, and the nearest named', async () => {
    await assertFails(serve(), { env: { TAILWIRE_LISEN: '1' } }, /TAILWIRE_LISEN/, /TAILWIRE_LISTEN/);
  });

  test('a value that is none is blamed on its variable', async () => {
    await assertFails(['serve', '--data', freshFolder()], { env: { TAILWIRE_LISTEN: '127.0.0.1:99999' } }, /TAILWIRE_LISTEN/, /99999/);
  });

  test('several origins are separated by commas', async (t) => {
    const broker = await Broker.start({ env: { TAILWIRE_ALLOW_ORIGIN: 'https://a.example,https://b.example' } });
    t.after(() => broker.stop());
    for (const [origin, status] of [['https://a.example', 201], ['https://b.example', 201], ['https://c.example', 403]]) {
      const answer = await request(`${broker.base}/topics/a`, { method: 'POST', body: 'x', headers: { origin } });
      assert.equal(answer.status, status, origin);
    }
  });
});

describe('precedence', () => {
  // Each source names a folder of its own; the one that was made is that of the winner.
  const SOURCES = ['file', 'variable', 'flag'];
  for (const [index, winner] of SOURCES.entries()) {
    test(`the ${winner} wins over ${SOURCES.slice(0, index).join(' and ') || 'the default'}`, async (t) => {
      const folders = { file: freshFolder(), variable: freshFolder(), flag: freshFolder() };
      const config = await settings(`listen = "127.0.0.1:0"\ndata = "${folders.file}"\n`);
      const broker = await Broker.start({
        serve: ['serve', '--config', config, ...(index >= 2 ? ['--data', folders.flag] : [])],
        env: index >= 1 ? { TAILWIRE_DATA: folders.variable } : {},
        data: folders[winner],
      });
      t.after(() => broker.stop());
      const exists = (name) => access(name).then(() => true, () => false);
      for (const source of SOURCES) assert.equal(await exists(folders[source]), source === winner, source);
    });
  }

  test('the file may be named by a variable', async (t) => {
    const data = freshFolder();
    const config = await settings(`listen = "127.0.0.1:0"\ndata = "${data}"\n`);
    const broker = await Broker.start({ serve: ['serve'], env: { TAILWIRE_CONFIG: config }, data });
    t.after(() => broker.stop());
    assert.equal((await request(`${broker.base}/healthz`)).status, 200);
  });
});

describe('start and end', () => {
  test('a folder that is not there is made, with those above it', async (t) => {
    const data = path.join(freshFolder(), 'a', 'b');
    const broker = await Broker.start({ data });
    t.after(() => broker.stop());
    await publish(broker.base, 'a', 'x');
  });

  test('a folder of something else is refused and left alone, one with lost+found is not', async (t) => {
    const data = freshFolder();
    await mkdir(data);
    await writeFile(path.join(data, 'letter.txt'), 'dear');
    const serveThere = ['serve', '--listen', '127.0.0.1:0', '--data', data];
    await assertFails(serveThere, {}, /letter\.txt/, /empty folder/);
    assert.deepEqual(await readdir(data), ['letter.txt']);
    assert.equal(await readFile(path.join(data, 'letter.txt'), 'utf8'), 'dear');

    await rm(path.join(data, 'letter.txt'));
    await mkdir(path.join(data, 'lost+found'));
    const broker = await Broker.start({ data });
    t.after(() => broker.stop());
    await writeFile(path.join(data, 'letter.txt'), 'a log with a letter stays a log');
    await broker.restart();
  });

  test('SIGINT and SIGTERM end it with 0', async () => {
    for (const signal of ['SIGINT', 'SIGTERM']) {
      const broker = await Broker.start();
      const { code, signal: killed, ms } = await broker.end(signal);
      await broker.stop();
      assert.deepEqual([code, killed], [0, null], signal);
      assert.ok(ms < 3000, `${signal}: ${ms} ms`);
    }
  });

  test('--log-level off says nothing', async () => {
    const broker = await Broker.start({ args: ['--log-level', 'off'] });
    await publish(broker.base, 'a', 'x');
    await broker.stop();
    assert.equal(broker.stderr, '');
  });

  test('every line of the log is on stderr, and has no colours where there is no terminal', async () => {
    const broker = await Broker.start({ args: ['--log-level', 'debug'] });
    await broker.stop();
    assert.ok(broker.stderr.length > 0);
    assert.ok(!broker.stderr.includes('\u001b['), broker.stderr);
  });
});
