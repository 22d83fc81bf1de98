"""Builds shim.c, and steers it in a running broker. Its twin is `struct control` there."""

import atexit
import mmap
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

WRITE, SYNC, RANGE, NAMES, ANY = range(5)
_NOTHING, _FAIL, _KILL = range(3)
_RULE = struct.Struct("=8Q")
_ACTION_AT = 24
_FOREVER = 2**63


@cache
def library() -> Path:
    """The shim, compiled once a run."""
    folder = Path(tempfile.mkdtemp(prefix="tailwire-shim-"))
    atexit.register(shutil.rmtree, folder)
    built = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", built, source, "-lpthread"], check=True)
    return built


class Shim:
    """One broker's disk: where its journal is, and the rule that holds for it."""

    def __init__(self, folder: Path, root: Path, lies: bool = False):
        self.root = root
        self.journal = folder / "journal"
        self._lies = lies
        control = folder / "control"
        control.write_bytes(bytes(mmap.PAGESIZE))
        with control.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._control = control
        self.journal.unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(library()),
            "SHIM_ROOT": str(self.root),
            "SHIM_JOURNAL": str(self.journal),
            "SHIM_CONTROL": str(self._control),
            "SHIM_IGNORE_FSYNC": "1" if self._lies else "0",
        }

    @property
    def fired(self) -> int:
        """How many calls the rule was carried out on."""
        return _RULE.unpack_from(self._page)[7]

    def fail(self, kind: int, nth: int, error: int, times: int | None = None, torn: bool = False) -> None:
        """Lets the nth call of a kind from here on fail, and those after it; `times` in all, or until `heal`."""
        until = nth + times if times else _FOREVER
        self._set(kind, nth, until, _FAIL, error, torn)

    def kill(self, kind: int, nth: int) -> None:
        """Lets the process die at the nth call of a kind from here on."""
        self._set(kind, nth, _FOREVER, _KILL, 0, False)

    def heal(self) -> None:
        self._set(ANY, 0, 0, _NOTHING, 0, False)

    def _set(self, kind: int, start: int, until: int, action: int, error: int, torn: bool) -> None:
        # The action last: the rule counts from there.
        struct.pack_into("=Q", self._page, _ACTION_AT, _NOTHING)
        _RULE.pack_into(self._page, 0, kind, start, until, _NOTHING, error, int(torn), 0, 0)
        struct.pack_into("=Q", self._page, _ACTION_AT, action)
