"""The shim and the model of a disk do what the other tests trust them to do; shown with a small program of ours in the
broker's place."""

import errno
import random
import signal
import subprocess
import sys

from broker import environment
from disk import ALL, FATES, NONE, PREFIX, Disk
from settings import FaultTest
from shim import NAMES, SYNC, WRITE, Shim

_WRITE = """
import os, sys
root = sys.argv[1]
def opened(name): return os.open(f"{root}/{name}", os.O_RDWR | os.O_CREAT)
def sync_names():
    folder = os.open(root, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
"""


class Model(FaultTest):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.folder / "disk"
        self.root.mkdir()
        (self.root / "old").write_bytes(b"old")
        self.disk = Disk(self.root)
        self.shim = Shim(self.folder, self.root)

    def _run(self, program: str, lies: bool = False) -> subprocess.CompletedProcess:
        env = environment(self.shim.environment() | {"SHIM_IGNORE_FSYNC": "1" if lies else "0"})
        command = [sys.executable, "-c", _WRITE + program, str(self.root)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        self.disk.replay(self.shim.journal)
        return done

    def _after(self, fate: str) -> dict[str, bytes]:
        left = self.folder / "left"
        self.disk.cut(left, fate, self.dice)
        return {path.name: path.read_bytes() for path in left.iterdir()}

    def test_what_is_synced_stays(self) -> None:
        done = self._run("f = opened('a'); os.pwrite(f, b'one', 0); os.fdatasync(f); sync_names(); os.write(f, b'two')")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self._after(NONE), {"old": b"old", "a": b"one"})
        self.assertEqual(self._after(ALL), {"old": b"old", "a": b"two"})
        for _ in range(20):
            self.assertRegex(self._after(PREFIX)["a"], rb"^(one|tne|twe|two)$")

    def test_a_name_without_its_folder_synced_may_be_gone(self) -> None:
        self._run("f = opened('a'); os.pwrite(f, b'one', 0); os.fsync(f); os.rename(f'{root}/old', f'{root}/new')")
        self.assertEqual(self._after(NONE), {"old": b"old"})
        self.assertEqual(self._after(ALL), {"a": b"one", "new": b"old"})

    def test_a_disk_that_lies(self) -> None:
        self._run("f = opened('old'); os.pwrite(f, b'NEW', 0); os.fdatasync(f)", lies=True)
        self.assertEqual(self._after(NONE), {"old": b"old"})

    def test_a_failed_sync_loses_what_it_was_for(self) -> None:
        self.shim.fail(SYNC, 1, errno.EIO, times=1)
        done = self._run(
            "f = opened('old'); os.pwrite(f, b'NEW', 0)\n"
            "try: os.fsync(f)\n"
            "except OSError as error: print(error.errno)\n"
            "os.pwrite(f, b'+', 3); os.fsync(f)"
        )
        self.assertEqual(done.stdout.strip(), str(errno.EIO), done.stderr)
        for fate in FATES:
            self.assertEqual(self._after(fate), {"old": b"old+"})

    def test_a_torn_write(self) -> None:
        self.shim.fail(WRITE, 1, errno.ENOSPC, torn=True)
        done = self._run("f = opened('old'); os.pwrite(f, b'0123456789', 0)")
        self.assertIn("No space left", done.stderr)
        self.assertEqual((self.root / "old").read_bytes(), b"01234")
        self.assertEqual(self._after(ALL), {"old": b"01234"})

    def test_the_process_dies_at_a_call(self) -> None:
        self.shim.kill(NAMES, 2)
        done = self._run("opened('a'); opened('b')")
        self.assertEqual(done.returncode, -signal.SIGKILL)
        self.assertEqual(self._after(ALL), {"old": b"old", "a": b""})

    def test_sectors_come_in_any_order(self) -> None:
        self._run("f = opened('old'); os.pwrite(f, b'x' * 4096, 0)")
        kinds = set()
        for number in range(200):
            self.dice = random.Random(number)
            content = self._after("some")["old"]
            kinds.add(tuple(content[at : at + 1] for at in range(0, len(content), 512)))
        self.assertGreater(len(kinds), 10)
