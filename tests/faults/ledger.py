"""What a broker has promised so far, and whether a log keeps it.

Every message says itself what it must be: its body names its group, its place in it, and carries bytes that follow from
those. So a wrong byte is seen without a copy of what was sent. Topics below `gone/` are deleted now and then, each by
the one client that writes to it; those below `kept/` never are. Those below `opt/` have options (`OPTIONS`): of their
messages some may be gone, and which is known all the same.
"""

import hashlib
import threading
from dataclasses import dataclass, field

KEPT, GONE = "kept/**", "gone/**"
COUNTED, SIZED, COMPACT, LAST = "opt/counted", "opt/sized", "opt/compact", "opt/last"
RELAXED, MEMORY = "opt/relaxed", "opt/memory"
# A bound is never set lower than this.
MESSAGES_MAX, BYTES_MAX, RELAXED_MAX = 40, 60_000, 2000
# The options that topics are given, one of them at a time.
OPTIONS: dict[str, list[dict]] = {
    COUNTED: [{"max_messages": MESSAGES_MAX}, {"max_messages": 2 * MESSAGES_MAX}],
    SIZED: [{"max_bytes": BYTES_MAX}, {"max_bytes": 2 * BYTES_MAX}],
    COMPACT: [{"compact": True}],
    LAST: [{"last": True}],
    RELAXED: [{"durability": "relaxed"}, {"durability": "relaxed", "max_messages": RELAXED_MAX}],
    MEMORY: [{"durability": "memory"}],
}
# What became of a publish or a DELETE, as its client knows it.
UNKNOWN, DONE, REFUSED = "unknown", "done", "refused"


def body_of(group: str, index: int, count: int, size: int) -> str:
    head = f"{group}.{index}.{count}.{size}."
    return head + hashlib.shake_128(head.encode()).hexdigest(size // 2)


def parse_body(body: object) -> tuple[str, int, int] | None:
    """The group, index and count of a body, if each byte of it is right."""
    try:
        group, index, count, size, _ = str(body).split(".", 4)
        right = body_of(group, int(index), int(count), int(size)) == body
    except ValueError:
        return None
    return (group, int(index), int(count)) if right else None


@dataclass
class Group:
    """One publish: messages that are stored together or not at all."""

    topics: list[str]
    outcome: str = UNKNOWN
    # Of each message, once known from a receipt or from a subscriber.
    cursors: dict[int, str] = field(default_factory=dict)
    # The key of its messages.
    key: str | None = None


@dataclass
class Delete:
    topic: str
    # The newest message that its client had published; all up to it go.
    upto: str
    outcome: str = UNKNOWN


@dataclass
class Keyed:
    """A request with an idempotency key, to be sent again."""

    path: str
    body: bytes
    headers: dict[str, str]
    group: str


class Ledger:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self.groups: dict[str, Group] = {}
        self.deletes: list[Delete] = []
        self.keyed: list[Keyed] = []
        # The highest cursor that anybody was given.
        self.newest = ""
        # The same, without what a sound copy of a store taught.
        self.told = ""

    def skip(self, count: int) -> None:
        """Leaves out so many names, which another ledger has given."""
        self._next += count

    def begin(self, topics: list[str], sizes: list[int], key: str | None = None) -> tuple[str, list[str]]:
        """Notes a publish that is about to be sent; gives its name and its bodies."""
        with self._lock:
            self._next += 1
            name = f"g{self._next}"
            self.groups[name] = Group(topics, key=key)
        return name, [body_of(name, index, len(topics), size) for index, size in enumerate(sizes)]

    def acknowledge(self, name: str, cursors: list[str]) -> None:
        with self._lock:
            group = self.groups[name]
            group.outcome = DONE
            for index, cursor in enumerate(cursors):
                known = group.cursors.setdefault(index, cursor)
                assert known == cursor, f"{name}.{index} has the receipt {cursor}, and had {known}"
            self.newest = max([self.newest, *cursors])

    def refuse(self, name: str) -> None:
        self.groups[name].outcome = REFUSED

    def saw(self, line: dict) -> None:
        """Notes what a subscriber was sent: only what is durable may be."""
        with self._lock:
            self.newest = max(self.newest, line.get("cursor", ""))
            if line["kind"] != "message":
                return
            parsed = parse_body(line["data"])
            assert parsed, f"a subscriber got wrong bytes at {line['cursor']}"
            name, index, _ = parsed
            known = self.groups[name].cursors.setdefault(index, line["cursor"])
            assert known == line["cursor"], f"{name}.{index} was delivered at {line['cursor']} and {known}"

    @property
    def acknowledged(self) -> int:
        return sum(group.outcome == DONE for group in self.groups.values())

    def faults(self, log: list[dict], learns: bool = True) -> list[str]:
        """What is wrong with a log, read from its beginning to its end. What it teaches is noted: what a reader was
        shown once must stay."""
        found = _Found(self)
        for message in log:
            found.take(message)
        with self._lock:
            found.finish()
            if learns:
                found.teach()
                self.newest = max([self.newest, *(message["cursor"] for message in log[-1:])])
        return found.faults


class _Found:
    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._cursors: dict[str, dict[int, str]] = {}
        # Messages below `opt/`: cursor, key and cost, in order.
        self._kept: dict[str, list[tuple[str, str | None, int]]] = {topic: [] for topic in OPTIONS}
        self._sure: dict[str, str] = {}
        self._last = ""
        self.faults: list[str] = []

    def take(self, message: dict) -> None:
        cursor = message["cursor"]
        if cursor <= self._last:
            self.faults.append(f"order: {cursor} comes after {self._last}")
        self._last = cursor
        parsed = parse_body(message["data"])
        if not parsed:
            self.faults.append(f"wrong bytes: {cursor} has {message['data']!r:.80}")
            return
        name, index, _ = parsed
        group = self._ledger.groups.get(name)
        if group is None or group.topics[index] != message["topic"]:
            self.faults.append(f"foreign: {name}.{index} at {cursor} in {message['topic']}")
            return
        if message["topic"] in OPTIONS:
            cost = 64 + len(message["topic"]) + len(message["data"]) + len(message.get("key", ""))
            self._kept[message["topic"]].append((cursor, message.get("key"), cost))
        places = self._cursors.setdefault(name, {})
        if index in places:
            self.faults.append(f"twice: {name}.{index} at {places[index]} and {cursor}")
        places.setdefault(index, cursor)

    def finish(self) -> None:
        sure = [group for group in self._ledger.groups.values() if group.outcome == DONE and not _is_unsure(group)]
        # Of each epoch, the newest message that was acknowledged as being on the disk.
        for cursor in (cursor for group in sure for cursor in group.cursors.values()):
            self._sure[_epoch(cursor)] = max(cursor, self._sure.get(_epoch(cursor), ""))
        for name, group in self._ledger.groups.items():
            self._check(name, group, self._cursors.get(name, {}))
        for delete in self._ledger.deletes:
            self._check_delete(delete)

    def _check(self, name: str, group: Group, places: dict[int, str]) -> None:
        for index, cursor in group.cursors.items():
            if index not in places and not self._may_be_gone(group, index, cursor):
                what = "acknowledged" if group.outcome == DONE else "delivered"
                self.faults.append(f"lost: {name}.{index} in {group.topics[index]} at {cursor} was {what}")
            elif places.get(index, cursor) != cursor:
                self.faults.append(f"moved: {name}.{index} from {cursor} to {places[index]}")
        if not places:
            return
        if group.outcome == REFUSED:
            self.faults.append(f"refused: {name} is stored all the same, at {places}")
        numbers = [int(places[index].split("-")[1], 32) for index in sorted(places)]
        if group.topics[0] in OPTIONS:
            return
        if len(places) != len(group.topics) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            self.faults.append(f"not whole: {name} of {len(group.topics)} has {sorted(places.items())}")

    def teach(self) -> None:
        for name, places in self._cursors.items():
            self._ledger.groups[name].cursors.update(places)

    def _may_be_gone(self, group: Group, index: int, cursor: str) -> bool:
        """Whether a DELETE, or the options of its topic, may have taken a message."""
        topic = group.topics[index]
        if topic == MEMORY:
            return True
        if topic not in OPTIONS:
            return self._may_be_deleted(group, cursor)
        newer = [kept for kept in self._kept[topic] if kept[0] > cursor]
        if topic == RELAXED:
            # Only the end may be missing, up to what was surely on the disk; or the oldest, beyond the bound.
            is_end = not any(_epoch(kept[0]) == _epoch(cursor) for kept in newer)
            is_unsynced = is_end and self._sure.get(_epoch(cursor), "") < cursor
            return is_unsynced or len(newer) >= RELAXED_MAX
        if topic == COUNTED:
            return len(newer) >= MESSAGES_MAX
        if topic == SIZED:
            # The newest stays, whatever its size: with the missing one the bound was passed.
            return sum(cost for _, _, cost in newer) + _COST_MAX > BYTES_MAX
        return any(topic == LAST or key == group.key for _, key, _ in newer)

    def _may_be_deleted(self, group: Group, cursor: str) -> bool:
        return any(
            delete.topic in group.topics and cursor <= delete.upto and delete.outcome != REFUSED
            for delete in self._ledger.deletes
        )

    def _check_delete(self, delete: Delete) -> None:
        left, gone = [], 0
        for name, group in self._ledger.groups.items():
            if group.topics[0] != delete.topic:
                continue
            for index, cursor in (group.cursors | self._cursors.get(name, {})).items():
                if cursor > delete.upto:
                    continue
                if index in self._cursors.get(name, {}):
                    left.append(f"{name}.{index}")
                else:
                    gone += 1
        if delete.outcome == DONE and left:
            self.faults.append(f"undone: the DELETE of {delete.topic} up to {delete.upto} left {left[:5]}")
        elif delete.outcome == UNKNOWN and left and gone and not self._was_deleted_before(delete):
            self.faults.append(f"half done: the DELETE of {delete.topic} took {gone} and left {len(left)}")

    def _was_deleted_before(self, delete: Delete) -> bool:
        """Then what is gone may have gone with the earlier one."""
        return any(other is not delete and other.topic == delete.topic for other in self._ledger.deletes)


# What a message of the load costs at most.
_COST_MAX = 61_000


def _epoch(cursor: str) -> str:
    return cursor[:8]


def _is_unsure(group: Group) -> bool:
    return all(topic in (RELAXED, MEMORY) for topic in group.topics)
