"""A broker for a test: the binary in $BROKER, on a port and with a folder of its own."""

import http.client
import os
import re
import shutil
import subprocess
import tempfile
import threading

BINARY = os.environ.get("BROKER") or os.path.join(os.path.dirname(__file__), "../../target/release/tailwire")
# How long an answer may take. A bound for failure, not a wait.
PATIENCE_S = 30


def ask(port, method, path, body=None, headers=None):
    """One request on a connection of its own: the response and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    return response, raw


class Broker:
    def __init__(self, *flags, begin=None):
        """Returns once it says where it listens. `flags` are more of the command line; the process calls `begin` first."""
        self._flags, self._begin = flags, begin
        self._data = tempfile.mkdtemp(prefix="tailwire-test-")
        self.port = 0
        self._start()

    def _start(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith("TAILWIRE_")}
        command = [BINARY, "serve", "--listen", f"127.0.0.1:{self.port}", "--admin-listen", "127.0.0.1:0"]
        command += ["--data", self._data, "--log-level", "warn", *self._flags]
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=self._stderr, text=True, preexec_fn=self._begin
        )
        for line in self._process.stdout:
            if found := re.search(r"address\s+https?://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
            # The last of its addresses.
            if found := re.search(r"metrics\s+(http://127\.0\.0\.1:(\d+)/metrics)", line):
                self.metrics_url, self.operations_port = found[1], int(found[2])
                break
        else:
            raise RuntimeError("the broker did not start")
        # Whatever else it says is not to fill the pipe.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def metrics(self) -> str:
        """What it counts."""
        return ask(self.operations_port, "GET", "/metrics")[1].decode()

    def operator_key(self) -> str:
        """The credential of this machine's operator, where there is access control."""
        with open(os.path.join(self._data, "operator.key"), encoding="ascii") as file:
            return file.read().strip()

    def resident_bytes(self) -> int:
        with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def kill(self):
        """Ends it as a crash would."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()
        self._stderr.close()

    def start_again(self):
        """On the same port and folder, after a `kill` or `drain`."""
        self._start()

    def stop(self):
        """Ends it in good order, or fails."""
        self.drain()
        shutil.rmtree(self._data)

    def drain(self):
        """Ends it in good order, or fails; it can be started again."""
        self._process.terminate()
        code = self._process.wait(PATIENCE_S)
        self._process.stdout.close()
        self._stderr.seek(0)
        said = self._stderr.read().decode()
        self._stderr.close()
        if code != 0 or "panicked" in said:
            raise RuntimeError(f"the broker ended with {code}: {said}")
