"""Caches of the field before a broker: Debian's Varnish and nginx, as they come, with nothing set but where the broker is."""

import os
import shutil
import socket
import subprocess
import tempfile
import time

# How long one may take to start. A bound for failure, not a wait.
PATIENCE_S = 30

NGINX = """
daemon off; {user} worker_processes 1; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000; {temp}
  proxy_cache_path cache keys_zone=pages:8m max_size=256m;
  upstream broker {{ server 127.0.0.1:{broker}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://broker; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_cache pages; proxy_cache_lock on; proxy_cache_background_update on; proxy_cache_use_stale updating;
    }}
  }}
}}
"""


class Front:
    """A cache that runs."""

    def __init__(self, broker_port):
        self.folder = tempfile.mkdtemp(prefix=f"tailwire-{self.name}-")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(self.command(broker_port), stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._log.seek(0)
                    raise RuntimeError(f"{self.name} did not start: {self._log.read().decode()}") from None
                time.sleep(0.01)

    def stop(self):
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Nginx(Front):
    name = "nginx"

    def command(self, broker_port):
        os.mkdir(os.path.join(self.folder, "temp"))
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        configuration = NGINX.format(
            # Workers of root's nginx run as somebody else, who could not write to this folder.
            user="user root;" if os.getuid() == 0 else "",
            temp=" ".join(f"{kind}_temp_path temp/{kind};" for kind in kinds),
            broker=broker_port,
            port=self.port,
        )
        file = os.path.join(self.folder, "nginx.conf")
        with open(file, "w", encoding="ascii") as out:
            out.write(configuration)
        return ["nginx", "-p", self.folder, "-c", file, "-e", "stderr"]


class Varnish(Front):
    name = "varnish"

    def command(self, broker_port):
        return [
            # Its workers run as it does, since others could not write to this folder.
            "varnishd", "-j", "none", "-F", "-n", self.folder, "-s", "malloc,128m", "-T", "none",
            "-a", f"127.0.0.1:{self.port}", "-b", f"127.0.0.1:{broker_port}",
        ]
