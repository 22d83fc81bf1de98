"""What a disk could hold after a power cut, worked out from the journal that the shim kept.

The model is no file system's, but what POSIX promises, which is less than most give: bytes are there once an fsync or
fdatasync that began after them returned; a name is there once its folder was fsynced after it was made. Of everything
else any part may be there: whole writes, single sectors of them, a length without the bytes. After a failed sync the
bytes that it was asked for are lost for good, whatever later syncs answer: the kernel may drop them.
"""

import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HEADER = struct.Struct("=IIQQ")
_OPENED, _WRITTEN, _CUT, _SYNC_BEGUN, _SYNC_DONE, _SYNC_FAILED, _RENAMED, _UNLINKED, _MADE_DIR = range(1, 10)
_CREATED, _DIRECTORY = 1, 2
SECTOR = 512

# How much of what was not synced survives.
NONE, ALL, PREFIX, SOME, GAPPED = "none", "all", "prefix", "some", "all but a few in a row"
FATES = (NONE, ALL, PREFIX, SOME, GAPPED)
GAP_WRITES_MAX = 4


def _records(journal: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """What a process did: the kind of a call, its file, its offset, its bytes. The last one may be cut off."""
    raw = journal.read_bytes() if journal.exists() else b""
    place = 0
    while place + _HEADER.size <= len(raw):
        kind, handle, offset, length = _HEADER.unpack_from(raw, place)
        has_bytes = kind in (_OPENED, _WRITTEN, _RENAMED, _UNLINKED, _MADE_DIR)
        end = place + _HEADER.size + (length if has_bytes else 0)
        if end > len(raw):
            return
        yield kind, handle, offset, raw[place + _HEADER.size : end]
        place = end


def bytes_between_syncs(journal: Path, name: str) -> list[int]:
    """How much was written to the file whose path ends so, before each of its syncs, since the one before."""
    paths: dict[int, str] = {}
    sums = [0]
    for kind, handle, _, data in _records(journal):
        if kind == _OPENED:
            paths[handle] = data.decode()
        elif paths.get(handle, "").endswith(name):
            sums[-1] += len(data) if kind == _WRITTEN else 0
            sums += [0] if kind == _SYNC_BEGUN else []
    return sums


@dataclass
class _Write:
    """Bytes at an offset, or a new length if there are none."""

    at: int
    offset: int
    data: bytes | None


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[_Write] = field(default_factory=list)

    def synced(self, begun: int) -> None:
        for write in self.pending:
            if write.at < begun:
                _apply(self.durable, write.offset, write.data)
        self.pending = [write for write in self.pending if write.at >= begun]

    def sync_failed(self, begun: int) -> None:
        self.pending = [write for write in self.pending if write.at >= begun]

    def after_cut(self, fate: str, dice: random.Random) -> bytes:
        content = bytearray(self.durable)
        kept = self.pending
        if fate == NONE:
            kept = []
        elif fate == PREFIX:
            kept = kept[: dice.randint(0, len(kept))]
        elif fate == GAPPED and kept:
            first = dice.randrange(len(kept))
            kept = kept[:first] + kept[first + dice.randint(1, GAP_WRITES_MAX):]
        for index, write in enumerate(kept):
            last = index == len(kept) - 1
            if fate == SOME:
                _apply_sectors(content, write, dice)
            elif fate == PREFIX and last and write.data:
                torn = dice.randint(0, len(write.data))
                torn -= torn % SECTOR if dice.random() < 0.5 else 0
                _apply(content, write.offset, write.data[:torn])
            else:
                _apply(content, write.offset, write.data)
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if not data:
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _apply_sectors(content: bytearray, write: _Write, dice: random.Random) -> None:
    """Each sector is there or isn't; now and then the length is all that got there."""
    if write.data is None:
        if dice.random() < 0.5:
            _apply(content, write.offset, None)
        return
    if dice.random() < 0.1:
        content.extend(bytes(max(0, write.offset + len(write.data) - len(content))))
        return
    chance = dice.choice((0.0, 0.5, 0.9, 1.0))
    start = 0
    while start < len(write.data):
        end = min(len(write.data), start + SECTOR - (write.offset + start) % SECTOR)
        if dice.random() < chance:
            _apply(content, write.offset + start, write.data[start:end])
        start = end


@dataclass
class _Folder:
    durable: dict[str, object] = field(default_factory=dict)
    names: dict[str, object] = field(default_factory=dict)
    # Changes of names that were not synced: when, and the names that they set (or remove, if None).
    pending: list[tuple[int, dict[str, object]]] = field(default_factory=list)

    def change(self, at: int, names: dict[str, object]) -> None:
        _rename(self.names, names)
        self.pending.append((at, names))

    def synced(self, begun: int) -> None:
        for at, names in self.pending:
            if at < begun:
                _rename(self.durable, names)
        self.pending = [change for change in self.pending if change[0] >= begun]

    def after_cut(self, fate: str, dice: random.Random) -> dict[str, object]:
        names = dict(self.durable)
        count = {NONE: 0, ALL: len(self.pending)}.get(fate, dice.randint(0, len(self.pending)))
        # In order: every file system that journals its names keeps them so.
        for _, change in self.pending[:count]:
            _rename(names, change)
        return names


def _rename(names: dict[str, object], change: dict[str, object]) -> None:
    for name, thing in change.items():
        if thing is None:
            names.pop(name, None)
        else:
            names[name] = thing


class Disk:
    """A folder as of the beginning of a journal, and what the journal says happened to it."""

    def __init__(self, root: Path):
        """Takes what the folder holds as durable: call it before the process starts."""
        self._root = root
        self._tree = self._load(root)
        self._handles: dict[int, _File | _Folder] = {}
        self._syncs: dict[int, int] = {}
        self.records = 0

    def _load(self, folder: Path) -> _Folder:
        names: dict[str, object] = {}
        for path in folder.iterdir():
            names[path.name] = self._load(path) if path.is_dir() else _File(bytearray(path.read_bytes()))
        return _Folder(dict(names), names)

    def replay(self, journal: Path) -> None:
        """Follows the journal of one process."""
        for kind, handle, offset, data in _records(journal):
            self.records += 1
            self._follow(kind, handle, offset, data)
        self._handles.clear()
        self._syncs.clear()

    def _follow(self, record: int, handle: int, offset: int, data: bytes) -> None:
        at = self.records
        if record == _OPENED:
            self._open(at, handle, offset, data.decode())
        elif record == _WRITTEN:
            self._file(handle).pending.append(_Write(at, offset, data))
        elif record == _CUT:
            self._file(handle).pending.append(_Write(at, offset, None))
        elif record == _SYNC_BEGUN:
            self._syncs[offset] = at
        elif record == _SYNC_DONE:
            self._handles[handle].synced(self._syncs.pop(offset))
        elif record == _SYNC_FAILED:
            begun, thing = self._syncs.pop(offset), self._handles[handle]
            if isinstance(thing, _File):
                thing.sync_failed(begun)
        elif record == _MADE_DIR:
            self._change(at, data.decode(), _Folder())
        elif record == _UNLINKED:
            self._change(at, data.decode(), None)
        elif record == _RENAMED:
            source, target = data.decode().split("\0")
            moved = self._find(source)
            if Path(source).parent == Path(target).parent:
                folder, name = self._parent(source)
                folder.change(at, {name: None, Path(target).name: moved})
            else:
                self._change(at, target, moved)
                self._change(at, source, None)

    def _open(self, at: int, handle: int, how: int, path: str) -> None:
        if how & _CREATED:
            self._change(at, path, _File())
        self._handles[handle] = self._find(path)

    def _file(self, handle: int) -> _File:
        file = self._handles[handle]
        assert isinstance(file, _File)
        return file

    def _change(self, at: int, path: str, thing: object) -> None:
        folder, name = self._parent(path)
        folder.change(at, {name: thing})

    def _parent(self, path: str) -> tuple[_Folder, str]:
        folder = self._find(str(Path(path).parent))
        assert isinstance(folder, _Folder)
        return folder, Path(path).name

    def _find(self, path: str) -> object:
        thing: object = self._tree
        for name in Path(path).relative_to(self._root).parts:
            assert isinstance(thing, _Folder)
            thing = thing.names[name]
        return thing

    def cut(self, target: Path, fate: str, dice: random.Random) -> None:
        """Writes what is left after the power went."""
        if target.exists():
            shutil.rmtree(target)
        self._write(self._tree, target, fate, dice)

    def _write(self, folder: _Folder, target: Path, fate: str, dice: random.Random) -> None:
        target.mkdir(parents=True)
        for name, thing in folder.after_cut(fate, dice).items():
            if isinstance(thing, _Folder):
                self._write(thing, target / name, fate, dice)
            else:
                assert isinstance(thing, _File)
                (target / name).write_bytes(thing.after_cut(fate, dice))
