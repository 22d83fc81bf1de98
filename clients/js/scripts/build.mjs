/**
 * Builds `dist/`, which is committed: ESM, CJS, a script for pages, and types; the core, and the sharing among tabs. With `--modules` builds `.build/` instead,
 * the single modules that the tests take apart. Other than from the source, nothing differs from run to run.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";
import { minify } from "terser";

const root = fileURLToPath(new URL("..", import.meta.url));

/** esbuild bundles; terser then takes off another 3 %. */
async function bundle(out, name, options) {
  const outfile = join(out, name);
  const { outputFiles } = await esbuild.build({
    bundle: true, minify: true, target: "es2022", sourcemap: "external", absWorkingDir: root, logLevel: "warning",
    outfile, write: false, ...options,
  });
  const [map, text] = outputFiles.map((file) => file.text);
  const file = name.split("/").at(-1);
  const small = await minify({ [file]: text }, {
    module: options.format === "esm", toplevel: options.format === "esm", ecma: 2020,
    compress: { passes: 6 },
    // The map lies beside it under the same name. Only for Node is it worth a line that names it: pages pay for each byte.
    sourceMap: { content: map, filename: file, ...(options.format === "cjs" && { url: `${file}.map` }) },
  });
  mkdirSync(dirname(outfile), { recursive: true });
  writeFileSync(outfile, small.code);
  writeFileSync(`${outfile}.map`, small.map);
  return small.code;
}

/** The same as the broker serves it: under another name, and compressed too. */
function serve(out, name, text) {
  mkdirSync(join(out, "served"), { recursive: true });
  writeFileSync(join(out, "served", name), text);
  writeFileSync(join(out, "served", `${name}.gz`), gzipSync(text, { level: 9 }));
}

export async function build(out) {
  rmSync(out, { recursive: true, force: true });
  const core = { entryPoints: ["src/index.ts"] };
  const tabs = { entryPoints: ["src/tabs.ts"] };
  serve(out, "client.mjs", await bundle(out, "tailwire.mjs", { ...core, format: "esm" }));
  serve(out, "client.js", await bundle(out, "tailwire.js", { ...core, entryPoints: ["src/script.ts"], format: "iife" }));
  await bundle(out, "cjs/tailwire.js", { ...core, format: "cjs" });
  serve(out, "client-tabs.mjs", await bundle(out, "tabs.mjs", { ...tabs, format: "esm" }));
  await bundle(out, "cjs/tabs.js", { ...tabs, format: "cjs" });
  execFileSync(join(root, "node_modules/.bin/tsc"), ["--emitDeclarationOnly", "--outDir", join(out, "types")], { cwd: root, stdio: "inherit" });
  // The same types once more, as those of a CommonJS module.
  cpSync(join(out, "types"), join(out, "cjs/types"), { recursive: true });
  writeFileSync(join(out, "cjs/package.json"), '{ "type": "commonjs" }\n');
}

async function modules(out) {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out);
  const files = readdirSync(join(root, "src"), { recursive: true }).filter((name) => name.endsWith(".ts"));
  await esbuild.build({ entryPoints: files.map((name) => `src/${name}`), outdir: out, format: "esm", target: "es2022", sourcemap: "inline", absWorkingDir: root, outbase: "src" });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes("--modules")) await modules(join(root, ".build"));
  else await build(join(root, "dist"));
}
