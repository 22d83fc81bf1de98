/**
 * The built client in Deno and in Bun, against the real broker. Their binaries come in packages of the registry, one for
 * each system, so that nothing is downloaded but what the lock file names.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Broker, missing } from "./support/broker.mjs";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const glibc = process.report.getReport().header.glibcVersionRuntime ? "-glibc" : "-musl";
const { platform, arch } = process;
const RUNTIMES = {
  deno: [at(`../node_modules/@deno/${platform}-${arch}${platform === "linux" ? glibc : ""}/deno`), ["run", "--no-config", "--no-remote", "--no-npm", "--allow-net=127.0.0.1"]],
  bun: [at(`../node_modules/@oven/bun-${platform}-${arch === "arm64" ? "aarch64" : arch}/bin/bun`), ["run"]],
};

describe("other runtimes", { skip: missing }, () => {
  let broker;
  before(async () => (broker = await Broker.start()));
  after(() => broker.stop());

  for (const [name, [binary, args]] of Object.entries(RUNTIMES)) {
    for (const transport of ["websocket", "stream"]) {
      test(`${name} over ${transport}`, { skip: existsSync(binary) ? false : `no ${name} for this system` }, async () => {
        const { stdout } = await promisify(execFile)(binary, [...args, at("support/visitor.mjs"), broker.url, transport], { timeout: 30_000 });
        assert.deepEqual(JSON.parse(stdout), { got: [{ n: 1 }, { n: 2 }, [0, 255]], changes: [transport], state: "closed" });
      });
    }
  }
});
