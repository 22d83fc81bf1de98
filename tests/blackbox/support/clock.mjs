// A broker whose wall clock is wrong, by libfaketime (Debian's `faketime`). Its monotonic clock stays right, as that of a
// machine whose clock is set.

import { existsSync, readdirSync } from 'node:fs';

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
