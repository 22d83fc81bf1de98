// The data folder is deleted, emptied, moved or replaced under a running broker.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import { Broker, eventually, run } from './support/broker.mjs';
import { assertProblem, freshTopic, publish, request } from './support/http.mjs';

/** It is noticed within a second; the rest is patience with a busy machine. */
const PATIENCE_MS = 5_000;

const HARMS = {
  'deleted': { harm: (data) => rm(data, { recursive: true }), says: /deleted or moved away/ },
  'emptied': {
    harm: async (data) => {
      for (const name of await readdir(data)) await rm(path.join(data, name), { recursive: true });
    },
    says: /deleted or moved away/,
    isLocked: true,
  },
  'moved away': { harm: (data) => rename(data, `${data}-moved`), says: /deleted or moved away/ },
  'moved away, and an empty one in its place': {
    harm: async (data) => {
      await rename(data, `${data}-moved`);
      await mkdir(data);
    },
    // It may be noticed before the other one is there.
    says: /was replaced|deleted or moved away/,
  },
  'deleted, and an empty one in its place': {
    harm: async (data) => {
      await rm(data, { recursive: true });
      await mkdir(data);
    },
    // It may be noticed before the other one is there.
    says: /was replaced|deleted or moved away/,
  },
};
for (const name of ['db', 'journal', 'watermark']) {
  HARMS[`as it was, but ${name} is replaced by a copy`] = {
    harm: async (data) => {
      await copyFile(path.join(data, name), path.join(data, 'copy'));
      await rename(path.join(data, 'copy'), path.join(data, name));
    },
    says: new RegExp(`${name} was replaced`),
    isLocked: true,
  };
  HARMS[`as it was, but ${name} is cut short`] = {
    harm: (data) => truncate(path.join(data, name)),
    says: new RegExp(`${name} was cut short`),
    isLocked: true,
  };
}

for (const [place, above] of [['a folder', tmpdir()], ['tmpfs', '/dev/shm']]) {
  if (!existsSync(above)) continue;
  for (const [name, { harm, says, isLocked }] of Object.entries(HARMS)) {
    test(`${place}: the data folder is ${name}`, async (t) => {
      const parent = await mkdtemp(path.join(above, 'tailwire-test-'));
      t.after(() => rm(parent, { recursive: true, force: true }));
      const broker = await Broker.start({ data: path.join(parent, 'data') });
      t.after(() => broker.stop());
      const topic = freshTopic();
      await publish(broker.base, topic, 'before');
      await harm(broker.data);
      const status = async () => (await request(`${broker.base}/readyz`)).status;
      await eventually(async () => (await status()) === 503, 'nobody noticed', PATIENCE_MS);
      assertProblem(await request(`${broker.base}/topics/${topic}`, { method: 'POST', body: 'x' }), 503, 'storage-failed');
      assert.match(broker.stderr, says);
      assert.deepEqual((await request(`${broker.base}/topics/${topic}`)).json.messages.length, 1, 'what was there can still be read');
      if (isLocked) {
        const second = await run(['serve', '--listen', '127.0.0.1:0', '--data', broker.data]);
        assert.notEqual(second.code, 0);
        assert.match(second.stderr, /another process has this log open/);
      }
      assertProblem(await request(`${broker.base}/topics/${topic}`, { method: 'POST', body: 'x' }), 503, 'storage-failed');
      assert.equal(await status(), 503);
    });
  }
}

test('a broker that has nothing to do notices, too', async (t) => {
  const broker = await Broker.start();
  t.after(() => broker.stop());
  await rm(broker.data, { recursive: true });
  await eventually(async () => (await request(`${broker.base}/readyz`)).status === 503, 'nobody noticed', PATIENCE_MS);
});
