"""Programs of a run: servers that are watched while others load them, and the load generators. All are pinned."""

import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine

# Bounds for failure, none of them a wait.
START_S_MAX = 20
STOP_S_MAX = 10
# A server whose memory is the same for so long rests. One that never does is measured all the same.
STILL_S = 0.3
STILL_S_MAX = 5
GLANCE_S = 0.025
READY_S_MAX = 90
# What a run may take beyond the time that it was told to last.
SLACK_S = 60
# A server that has worked for so long since a load began has that load.
BUSY_NS = 200_000_000


class Failed(Exception):
    """A program did not do what it was started for; the text says why."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A server on its core, with a folder of its own, which goes with it."""

    def __init__(self, command: list[str], ports: list[int], folder: tempfile.TemporaryDirectory):
        """Starts it, and returns once it accepts connections on its ports."""
        self._folder = folder
        self._log = tempfile.TemporaryFile()
        core, _ = machine.cores()
        # A variable of ours would configure the broker, or be refused by it.
        env = {name: value for name, value in os.environ.items() if not name.startswith("TAILWIRE_")}
        self._process = subprocess.Popen(
            machine.pinned(core, command),
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, cwd=folder.name, env=env,
        )
        self.pid = self._process.pid
        try:
            for port in ports:
                self._wait_for(port)
        except BaseException as why:
            said = self._stop()
            if isinstance(why, Failed) and said:
                raise Failed(f"{why}: {said}") from None
            raise

    def _wait_for(self, port: int) -> None:
        end = time.monotonic() + START_S_MAX
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise Failed(f"it ended with code {self._process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                # Nothing tells when a foreign server has bound its port; asking twenty times a second costs nothing.
                time.sleep(0.05)
        raise Failed("it does not listen")

    def cpu_ns(self) -> int:
        """CPU time of the process and its children so far, by their own clocks."""
        # The kernel's name for the CPU clock of a process: see clock_getcpuclockid(3).
        return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in self._family())

    def resident_bytes(self) -> int:
        """Memory of its own and of its children; what the kernel holds for their sockets is not in it."""
        total = 0
        for pid in self._family():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Rss:"))
        return total

    def rested_bytes(self) -> int:
        """Its memory once it stands still: a server that has just started may still grow to what it is at rest."""
        end = time.monotonic() + STILL_S_MAX
        memory, since = self.resident_bytes(), time.monotonic()
        while (now := time.monotonic()) - since < STILL_S and now < end:
            time.sleep(GLANCE_S)
            seen = self.resident_bytes()
            if seen != memory:
                memory, since = seen, time.monotonic()
        return memory

    def _family(self) -> list[int]:
        family = [self.pid]
        for pid in family:
            for task in Path(f"/proc/{pid}/task").iterdir():
                family += [int(child) for child in (task / "children").read_text().split()]
        return family

    def _stop(self) -> str:
        """Ends it; gives the last line that it wrote."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        self._log.close()
        self._folder.cleanup()
        return said[-1] if said else ""

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()


class Load:
    """A run of the `peers` program: open, then told to begin, then its figures."""

    def __init__(self, binary: Path, arguments: list[str]):
        """Returns once all its connections are open."""
        _, core = machine.cores()
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            machine.pinned(core, [str(binary), *arguments]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )
        self._said = b""
        try:
            self._line(READY_S_MAX)
        except Failed:
            self.__exit__()
            raise

    def run(self, seconds: float) -> dict:
        """Lets it begin, and gives what it measured."""
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        return json.loads(self._line(seconds + SLACK_S))

    def _line(self, wait_s: float) -> str:
        end = time.monotonic() + wait_s
        out = self._process.stdout
        while b"\n" not in self._said:
            ready, _, _ = select.select([out], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise Failed(f"the load generator says nothing for {wait_s:.0f} s")
            more = os.read(out.fileno(), 65536)
            if not more:
                self._process.wait()
                raise Failed(os.pread(self._errors.fileno(), 4096, 0).decode(errors="replace").strip())
            self._said += more
        line, self._said = self._said.split(b"\n", 1)
        return line.decode()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()


def bench(binary: Path, arguments: list[str], seconds: float) -> dict:
    """What `tailwire bench` reports, run on the core of the load."""
    _, core = machine.cores()
    command = machine.pinned(core, [str(binary), "bench", *arguments, "--json"])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SLACK_S, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"`tailwire bench {arguments[0]}` does not end") from None
    if not done.stdout:
        raise Failed(done.stderr.strip())
    return json.loads(done.stdout)


@contextmanager
def bench_beside(binary: Path, arguments: list[str], server: Server) -> Iterator[None]:
    """While the block runs, `tailwire bench` keeps the server busy, from its beginning to its end."""
    _, core = machine.cores()
    command = machine.pinned(core, [str(binary), "bench", *arguments])
    before = server.cpu_ns()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_S_MAX
        while server.cpu_ns() - before < BUSY_NS:
            if process.poll() is not None or time.monotonic() > end:
                raise Failed(f"`tailwire bench {arguments[0]}` does not keep the server busy")
            time.sleep(GLANCE_S)
        yield
        if process.poll() is not None:
            raise Failed(f"`tailwire bench {arguments[0]}` was over too early")
    finally:
        process.kill()
        process.wait()
