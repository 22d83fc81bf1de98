// A broker whose wall clock is wrong, by libfaketime (Debian's `faketime`). Its monotonic clock stays right, as that of a
// machine whose clock is set.

import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Where Debian keeps the library: in the folder of the machine's architecture. */
const library = () => {
  const folders = readdirSync('/usr/lib').map((name) => `/usr/lib/${name}/faketime/libfaketimeMT.so.1`);
  const found = folders.find((path) => existsSync(path));
  if (!found) throw new Error('libfaketime is missing: install the Debian package `faketime`');
  return found;
};

const faked = (more) => ({ LD_PRELOAD: library(), FAKETIME_DONT_FAKE_MONOTONIC: '1', DONT_FAKE_MONOTONIC: '1', NO_FAKE_STAT: '1', TZ: 'UTC', ...more });

/** The environment of a process whose clock begins at a time (a `Date`), and goes on from there. */
export const clockFrom = (date) => faked({ FAKETIME: `@${date.toISOString().slice(0, 19).replace('T', ' ')}` });

/** A clock that a test sets while a process runs by it: `env` is for that process. */
export class SettableClock {
  #folder = mkdtempSync(path.join(tmpdir(), 'tailwire-clock-'));

  constructor(seconds = 0) {
    this.set(seconds);
  }

  get env() {
    return faked({ FAKETIME_TIMESTAMP_FILE: path.join(this.#folder, 'offset'), FAKETIME_NO_CACHE: '1' });
  }

  /** Sets it to the right time and so many seconds, at once: it is never read half written. */
  set(seconds) {
    const next = path.join(this.#folder, 'next');
    writeFileSync(next, `${seconds < 0 ? '' : '+'}${seconds}s\n`);
    renameSync(next, path.join(this.#folder, 'offset'));
    this.offset = seconds;
  }

  now() {
    return Date.now() + 1000 * this.offset;
  }

  remove() {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
