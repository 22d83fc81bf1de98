// The real nginx, with nothing set but where the broker is: no Upgrade passed on, HTTP/1.0 upstream, buffering unless
// the broker asks for none. Once more with compression, and once deaf to what the broker asks.

import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { hasSaid, start } from './child.mjs';

const BINARY = process.env.NGINX ?? '/usr/sbin/nginx';

/** By name, what stands in a server's block beside `proxy_pass`. */
const SERVERS = {
  plain: '',
  gzip: 'gzip on; gzip_types *;',
  deaf: 'proxy_ignore_headers X-Accel-Buffering;',
};

export class Nginx {
  #child;
  #folder;
  /** By the server's name. */
  ports = {};

  static async before(broker) {
    const nginx = new Nginx();
    nginx.#folder = await mkdtemp(path.join(tmpdir(), 'tailwire-nginx-'));
    for (const name of Object.keys(SERVERS)) nginx.ports[name] = await freePort();
    const file = path.join(nginx.#folder, 'nginx.conf');
    await mkdir(path.join(nginx.#folder, 'temp'));
    await writeFile(file, nginx.#configuration(broker));
    nginx.#child = start(BINARY, ['-p', nginx.#folder, '-c', file, '-e', 'stderr']);
    await hasSaid(nginx.#child, /start worker process /);
    return nginx;
  }

  async stop() {
    this.#child.kill('SIGTERM');
    await this.#child.ended;
    await rm(this.#folder, { recursive: true, force: true });
  }

  #configuration(broker) {
    const servers = Object.entries(SERVERS).map(
      ([name, more]) => `
        server {
          listen 127.0.0.1:${this.ports[name]};
          location / { proxy_pass http://127.0.0.1:${broker}; }
          ${more}
        }`,
    );
    // Workers of root's nginx run as somebody else, who could not write to this folder.
    const user = process.getuid() === 0 ? 'user root;' : '';
    const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path temp/${name};`);
    return `
      daemon off; ${user} worker_processes 1; pid nginx.pid; error_log stderr notice;
      events {}
      http { access_log off; ${temp.join(' ')} ${servers.join('')}
      }`;
  }
}

/** nginx doesn't tell which port the system gave it, so it has to be given one. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
