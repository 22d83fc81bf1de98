/** Fails if `dist/` is not what the source gives. */
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { build } from "./build.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
// Beside `dist`, as source maps name their sources by the way from one to the other.
const fresh = mkdtempSync(join(root, ".check-"));
try {
  await build(fresh);
  const differing = compare(join(root, "dist"), fresh);
  for (const name of differing) console.error(`dist/${name} is not what the source gives: run npm run build, and commit`);
  process.exitCode = differing.length ? 1 : 0;
} finally {
  rmSync(fresh, { recursive: true, force: true });
}

function compare(committed, built) {
  const files = (folder) => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  const names = new Set([...files(committed), ...files(built)]);
  const read = (folder, name) => {
    try {
      const bytes = readFileSync(join(folder, name));
      // Libraries of other versions compress differently; what comes out has to be the same.
      return (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
    } catch {
      return undefined;
    }
  };
  return [...names].filter((name) => read(committed, name) !== read(built, name));
}
