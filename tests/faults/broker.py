"""The broker under test: the release binary in $BROKER, on a port and a data folder of its own."""

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from shim import Shim
from wire import Http

BINARY = os.environ.get("BROKER") or str(Path(__file__).parents[2] / "target/release/tailwire")
# How long it may take to start, or to end. A bound for failure, not a wait.
PATIENCE_S = 30
# A store of this size opens within this; machines that run tests are busy.
OPEN_S_MAX = 10
_PANIC = re.compile(r"panicked at.*(\n.*)?")


class Refused(Exception):
    """The broker ended instead of serving; `said` is what it wrote to stderr."""

    def __init__(self, code: int, said: str):
        super().__init__(f"exit code {code}: {said}")
        self.code = code
        self.said = said


def panics(said: str) -> str:
    """The first panic in what the broker wrote, if there is one."""
    found = _PANIC.search(said)
    return found[0] if found else ""


def environment(more: dict[str, str]) -> dict[str, str]:
    """What the broker inherits: nothing that would configure it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TAILWIRE_")}
    # The first line of a panic tells it, and a backtrace takes a second.
    return inherited | {"RUST_BACKTRACE": "0"} | more


class Broker:
    def __init__(self, data: Path, shim: Shim | None = None, log: Path | None = None, port: int = 0):
        """Starts it, and returns once it says where it listens. Raises `Refused` if it ends before."""
        began = time.monotonic()
        # Not beside the data: that disk may be full.
        self._log = log.open("w+b") if log else tempfile.TemporaryFile()
        command = [BINARY, "serve", "--listen", f"127.0.0.1:{port}", "--admin-listen", "127.0.0.1:0"]
        command += ["--data", str(data)]
        env = environment(shim.environment() if shim else {})
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, env=env
        )
        self.port, self.operations_port = self._ports(began + PATIENCE_S)
        self.open_s = time.monotonic() - began
        self.http = Http(self.port)

    def metrics(self) -> str:
        """What it counts."""
        http = Http(self.operations_port)
        try:
            return http.get("/metrics").body.decode()
        finally:
            http.close()

    def _ports(self, end: float) -> tuple[int, int]:
        said = b""
        out = self.process.stdout
        while time.monotonic() < end:
            ready, _, _ = select.select([out], [], [], max(0, end - time.monotonic()))
            more = os.read(out.fileno(), 65536) if ready else b""
            said += more
            if found := re.search(rb"address\s+http://\S+:(\d+)\n\s+metrics\s+http://\S+:(\d+)/", said):
                return int(found[1]), int(found[2])
            if ready and not more:
                code = self.process.wait(PATIENCE_S)
                out.close()
                said = self.stderr
                self._log.close()
                raise Refused(code, said)
        self.kill()
        raise AssertionError(f"the broker does not say where it listens: {self.stderr}")

    @property
    def stderr(self) -> str:
        """What it has said so far; to be asked for before the end of `with`."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode(errors="replace")

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Takes its life without a warning, if something else hasn't yet."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ends it in good order; gives the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: int) -> int:
        if self.is_alive:
            self.process.send_signal(how)
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the broker does not end: {self.stderr}") from None
        finally:
            self.process.stdout.close()
            if hasattr(self, "http"):
                self.http.close()
        return code

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive:
            self.kill()
        self.http.close()
        self._log.close()
