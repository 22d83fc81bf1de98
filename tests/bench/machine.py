"""The machine that a run takes place on: what the document says of it, and which core does what."""

import os
import platform
import re
import resource
import subprocess
import time
from pathlib import Path


def cores() -> tuple[int, int]:
    """The core of the servers and the core of the load; the same one if there is no other."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[min(1, len(allowed) - 1)]


def pinned(core: int, command: list[str]) -> list[str]:
    return ["taskset", "--cpu-list", str(core), *command]


class Neighbours:
    """What others take of the machine's cores from here on: other programs, and the host of a virtual machine."""

    def __init__(self):
        self._began = time.monotonic()
        self._busy = _busy_s()
        self._own = _own_s()

    def cores(self) -> float:
        """How many cores they kept busy, on average."""
        others = _busy_s() - self._busy - (_own_s() - self._own)
        return max(0.0, others / (time.monotonic() - self._began))


def _busy_s() -> float:
    """The time that all cores have worked in user and kernel mode, or were taken away by the host."""
    fields = _read("/proc/stat").splitlines()[0].split()[1:]
    user, nice, system, _, _, _, _, stolen = (int(field) for field in fields[:8])
    return (user + nice + system + stolen) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """Of that, what this program and those that it has started and seen end have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def describe(data: Path) -> list[tuple[str, str]]:
    """What the figures depend on, each with its name."""
    server, client = cores()
    count = len(os.sched_getaffinity(0))
    split = f"servers on core {server}, load on core {client}"
    if server == client:
        split = "one core for servers and load: they were in each other's way"
    return [
        ("processor", _processor()),
        ("cores", f"{count}; {split}"),
        ("memory", _memory()),
        ("system", f"{_distribution()}, Linux {platform.release()}"),
        ("disk of the data", _file_system(data)),
    ]


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.M)
    return f"{found[1]} ({platform.machine()})" if found else platform.machine()


def _memory() -> str:
    found = re.search(r"^MemTotal:\s*(\d+) kB$", _read("/proc/meminfo"), re.M)
    return f"{int(found[1]) / (1 << 20):.1f} GiB" if found else "unknown"


def _distribution() -> str:
    found = re.search(r'^PRETTY_NAME="(.+)"$', _read("/etc/os-release"), re.M)
    return found[1] if found else platform.system()


def _file_system(folder: Path) -> str:
    command = ["findmnt", "--noheadings", "--output", "FSTYPE,SOURCE", "--target", str(folder)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return " on ".join(asked.stdout.split()) or "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
