// Programs that run beside the tests: none outlives them, however they end.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

const running = new Set();
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => process.exit(1));

/** Starts a program; what it says on stderr is kept in `said`. */
export function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
  child.said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (child.said += text));
  running.add(child);
  child.ended = once(child, 'close').finally(() => running.delete(child));
  // Those that wait get the error; without a listener it would end the tests.
  child.ended.catch(() => {});
  return child;
}

/** Resolves once the program has said this on stderr; fails if it ends instead. */
export function hasSaid(child, pattern) {
  return new Promise((resolve, reject) => {
    const look = () => pattern.test(child.said) && resolve();
    child.stderr.on('data', look);
    const failed = () => reject(new Error(`${child.spawnfile} ended: ${child.said}`));
    child.ended.then(failed, reject);
    look();
  });
}
