// The proxies of docs/DEPLOY.md, by the very configurations that stand there, but for ports, certificates and where they keep
// their files.

import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { start } from '../fallback/support/child.mjs';

const PAGE = new URL('../../docs/DEPLOY.md', import.meta.url);
const PATIENCE_MS = 20_000;

/** The code blocks of a language, in their order. */
export async function blocks(language) {
  const page = await readFile(PAGE, 'utf8');
  return [...page.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, text]) => text);
}

/** Replaces what has to be there. */
const replaced = (text, changes) =>
  changes.reduce((all, [from, to]) => {
    if (!all.includes(from)) throw new Error(`docs/DEPLOY.md has no ${from}`);
    return all.replaceAll(from, to);
  }, text);

/** A program that listens on a port of its own, until the test ends. */
async function running(t, file, port, command, args) {
  const own = { HOME: path.dirname(file), XDG_CONFIG_HOME: path.dirname(file), XDG_DATA_HOME: path.dirname(file) };
  const child = start(command, args, { env: { ...process.env, ...own } });
  let said = '';
  child.stdout.on('data', (chunk) => (said += chunk));
  t.after(async () => {
    child.kill('SIGTERM');
    await child.ended;
    await rm(path.dirname(file), { recursive: true, force: true });
  });
  const end = performance.now() + PATIENCE_MS;
  while (!(await accepts(port))) {
    if (child.exitCode !== null || performance.now() > end) throw new Error(`${command} does not listen: ${child.said}${said}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return port;
}

async function accepts(port) {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** A port that nobody has; these programs don't tell which one the system gave them. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function written(name, text) {
  const folder = await mkdtemp(path.join(tmpdir(), 'tailwire-deploy-'));
  // Some of them read it as somebody else.
  await chmod(folder, 0o755);
  const file = path.join(folder, name);
  await writeFile(file, text);
  return file;
}

/** By name, each starts in front of a broker's port and gives its own. */
export const PROXIES = {
  async nginx(t, broker) {
    const port = await freePort();
    const [block] = await blocks('nginx');
    const site = replaced(block, [
      ['listen 443 ssl;', `listen 127.0.0.1:${port};`],
      ['    http2 on;', '    #'],
      ['    ssl_certificate ', '    # '],
      ['    ssl_certificate_key ', '    # '],
      ['server_name rt.example.com;', 'server_name _;'],
      ['127.0.0.1:8245', `127.0.0.1:${broker}`],
    ]);
    const user = process.getuid() === 0 ? 'user root;' : '';
    const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path temp/${name};`);
    const file = await written(
      'nginx.conf',
      `daemon off; ${user} worker_processes 1; pid nginx.pid; error_log stderr; events {} http { access_log off; ${temp.join(' ')}\n${site}\n}`,
    );
    const folder = path.dirname(file);
    await mkdir(path.join(folder, 'temp'));
    return running(t, file, port, process.env.NGINX ?? '/usr/sbin/nginx', ['-p', folder, '-c', file, '-e', 'stderr']);
  },

  async haproxy(t, broker) {
    const port = await freePort();
    const [block] = await blocks('haproxy');
    const text = replaced(block, [
      ['bind :443 ssl crt /etc/haproxy/rt.example.com.pem alpn h2,http/1.1', `bind 127.0.0.1:${port}`],
      ['X-Forwarded-Proto https', 'X-Forwarded-Proto http'],
      ['127.0.0.1:8245', `127.0.0.1:${broker}`],
    ]);
    const file = await written('haproxy.cfg', text);
    return running(t, file, port, 'haproxy', ['-db', '-f', file]);
  },

  async caddy(t, broker) {
    const port = await freePort();
    const [block] = await blocks('caddy');
    const text = replaced(block, [
      ['rt.example.com', `http://127.0.0.1:${port}`],
      ['127.0.0.1:8245', `127.0.0.1:${broker}`],
    ]);
    const file = await written('Caddyfile', `{\n admin off\n auto_https off\n}\n${text}`);
    return running(t, file, port, 'caddy', ['run', '--config', file, '--adapter', 'caddyfile']);
  },
};

/** HAProxy that passes bytes on, with a header of the PROXY protocol. */
export async function passing(t, broker) {
  const port = await freePort();
  const [, block] = await blocks('haproxy');
  const text = replaced(block, [
    ['bind :443', `bind 127.0.0.1:${port}`],
    ['127.0.0.1:8443', `127.0.0.1:${broker}`],
  ]);
  const defaults = 'defaults\n    timeout connect 5s\n    timeout client 75s\n    timeout server 75s\n';
  const file = await written('haproxy.cfg', defaults + text);
  return running(t, file, port, 'haproxy', ['-db', '-f', file]);
}

/** varnish, as it comes: it keeps whatever it may. */
export async function varnish(t, broker) {
  const port = await freePort();
  const file = await written('default.vcl', `vcl 4.1;\nbackend default { .host = "127.0.0.1"; .port = "${broker}"; }\n`);
  const folder = path.join(path.dirname(file), 'work');
  return running(t, file, port, process.env.VARNISHD ?? '/usr/sbin/varnishd', ['-F', '-f', file, '-a', `127.0.0.1:${port}`, '-n', folder]);
}
