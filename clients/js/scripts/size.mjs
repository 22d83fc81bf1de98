/** Fails if what a page has to load is larger than the budget: minified, by `gzip -9`. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const budgets = [
  ["dist/tailwire.mjs", 9216],
  ["dist/tailwire.js", 9216],
  ["dist/tabs.mjs", 1664],
];
/** How much more than Node's zlib the GNU program may need, where that can't be asked. */
const GNU_MORE = 20;

for (const [file, budget] of budgets) {
  const text = readFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)));
  const size = gzipped(text);
  console.log(`${file}: ${size} bytes of at most ${budget} (${text.length} before gzip)`);
  if (size > budget) process.exitCode = 1;
}

/** The larger of the two. */
function gzipped(text) {
  const zlib = gzipSync(text, { level: 9 }).length;
  const { status, stdout } = spawnSync("gzip", ["-9"], { input: text });
  return status === 0 ? Math.max(zlib, stdout.length) : zlib + GNU_MORE;
}
