/** Fails if what a page has to load is larger than the budget: minified, by gzip -9. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const budgets = [
  ["dist/tailwire.mjs", 8192],
  ["dist/tailwire.js", 8192],
  ["dist/tabs.mjs", 1536],
];

for (const [file, budget] of budgets) {
  const text = readFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)));
  const size = gzipSync(text, { level: 9 }).length;
  console.log(`${file}: ${size} bytes of at most ${budget} (${text.length} before gzip)`);
  if (size > budget) process.exitCode = 1;
}
