"""Plays the nodes of a cluster on paper: who listens to what at which node, and what that makes each node and the feed carry.

    python3 tests/cluster/simulate.py                     the table of docs/CLUSTER.md
    python3 tests/cluster/simulate.py --connections 1e6 --publishes 5e4 --bytes 512

Connections are spread over nodes by chance, as a balancer does without stickiness, and each listens to topics by Zipf's law:
the few that everybody listens to, and the many that almost nobody does. What a connection, a delivery and an entry cost is
given below, with where it was measured. No broker runs.
"""

import argparse
import bisect
import itertools
import math
import random
from dataclasses import dataclass, replace

# What was measured, on one core of the machine of docs/BENCHMARKS.md.
CONNECTION_BYTES = 2_200  # an idle WebSocket, in the process
SOCKET_BYTES = 6_000  # what the kernel has for one, about
DELIVERY_US = 8.5  # a sparse delivery by WebSocket
BATCHED_US = 0.3  # a delivery where many go in one write
APPLY_US = 4.0  # a message of the feed, at each node
TOPIC_BYTES = 300  # a topic in the index of each node
# What stands around a message in an entry, and around an entry on the wire.
ENTRY_OVERHEAD_BYTES = 60
# Messages that one connection gets within a turn of its node share a write.
TURN_S = 0.02
# What a node is to carry at most, of its cores and its memory: another's clients come to it when that is away.
SHARE_MAX = 0.6


@dataclass(frozen=True)
class Load:
    connections: int
    nodes: int
    cores: int = 8
    memory_gb: float = 16
    topics: int = 1_000_000
    subscriptions: int = 5
    publishes_per_s: float = 20_000
    message_bytes: int = 256
    zipf: float = 0.9
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    connections_per_node: float
    memory_gb: float
    # Of the feed, and how much of it somebody at that node listens to.
    feed_mbit: float
    wanted_share: float
    deliveries_per_s: float
    cores_apply: float
    cores_delivery: float
    clients_mbit: float

    @property
    def cores(self) -> float:
        return self.cores_apply + self.cores_delivery


class Popularity:
    """Zipf's law over topics: rank n is taken in proportion to 1/n^power. Sums are exact for the first, integrals beyond."""

    EXACT = 10_000

    def __init__(self, topics: int, power: float):
        self.topics, self.power = topics, power
        self._sums = list(itertools.accumulate(n**-power for n in range(1, min(topics, self.EXACT) + 1)))
        self.total = self._sums[-1] + self._beyond(topics)

    def _beyond(self, rank: float) -> float:
        """The sum from the last exact one to a rank."""
        known = len(self._sums)
        if rank <= known:
            return 0
        if self.power == 1:
            return math.log(rank / known)
        return (rank ** (1 - self.power) - known ** (1 - self.power)) / (1 - self.power)

    def share(self, rank: int) -> float:
        return rank**-self.power / self.total

    def pick(self, chance: random.Random) -> int:
        """A rank, as a publisher takes one."""
        wanted = chance.random() * self.total
        known = len(self._sums)
        if wanted <= self._sums[-1]:
            return bisect.bisect_left(self._sums, wanted) + 1
        rest = wanted - self._sums[-1]
        if self.power == 1:
            return min(self.topics, int(known * math.exp(rest)) + 1)
        return min(self.topics, int((rest * (1 - self.power) + known ** (1 - self.power)) ** (1 / (1 - self.power))) + 1)


def play(load: Load, samples: int = 400) -> Outcome:
    """What one node carries on average."""
    per_node = load.connections / load.nodes
    topics, chance = Popularity(load.topics, load.zipf), random.Random(load.seed)
    wanted, heard = 0.0, 0.0
    for rank in [topics.pick(chance) for _ in range(samples)]:
        # How many of this node's subscriptions are to the topic: publishers and listeners like the same ones.
        listeners = per_node * load.subscriptions * topics.share(rank)
        wanted += 1 - math.exp(-listeners)
        heard += listeners
    wanted, heard = wanted / samples, heard / samples
    deliveries = load.publishes_per_s * heard
    of_each = deliveries / per_node * TURN_S
    # Of the messages that a connection gets in a turn the first pays for the write.
    written = deliveries * (1 - math.exp(-of_each)) / of_each if of_each else 0
    delivery_us = written * DELIVERY_US + (deliveries - written) * BATCHED_US
    feed = load.publishes_per_s * (load.message_bytes + ENTRY_OVERHEAD_BYTES) * 8 / 1e6
    return Outcome(
        connections_per_node=per_node,
        memory_gb=(per_node * (CONNECTION_BYTES + SOCKET_BYTES) + load.topics * TOPIC_BYTES) / 1e9,
        feed_mbit=feed,
        wanted_share=wanted,
        deliveries_per_s=deliveries,
        cores_apply=load.publishes_per_s * APPLY_US / 1e6,
        cores_delivery=delivery_us / 1e6,
        clients_mbit=deliveries * (load.message_bytes + 100) * 8 / 1e6,
    )


def is_too_much(load: Load) -> bool:
    got = play(load, 100)
    return got.cores > load.cores * SHARE_MAX or got.memory_gb > load.memory_gb * SHARE_MAX


def nodes_needed(load: Load) -> int:
    """The fewest nodes of which none carries more than its share; its one committer is a core that can't be shared."""
    if load.topics * TOPIC_BYTES / 1e9 > load.memory_gb * SHARE_MAX / 2:
        raise ValueError("every node has an index of all topics, and these leave no room for connections")
    if load.publishes_per_s * APPLY_US / 1e6 > 1:
        raise ValueError("one order has one committer at each node, and these publishes are more than it applies")
    low, high = 1, 1
    while is_too_much(replace(load, nodes=high)):
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        if is_too_much(replace(load, nodes=middle)):
            low = middle + 1
        else:
            high = middle
    return high


CASES = [
    ("a chat for a town", Load(100_000, 2, topics=20_000, publishes_per_s=500)),
    ("notifications, each user a topic", Load(1_000_000, 3, topics=1_000_000, subscriptions=2, publishes_per_s=5_000, zipf=0.2)),
    ("a million at the same match", Load(1_000_000, 3, topics=100, subscriptions=2, publishes_per_s=20)),
    ("ten million, each user a topic", Load(10_000_000, 3, topics=10_000_000, subscriptions=2, publishes_per_s=40_000, zipf=0.2)),
    ("ten million at the same match", Load(10_000_000, 3, topics=100, subscriptions=2, publishes_per_s=20)),
]


def table(cases: list[tuple[str, Load]]) -> list[str]:
    lines = [
        "| | connections | publishes/s | nodes | connections of each | memory, GB | feed, Mbit/s | of it wanted "
        "| deliveries/s | cores to apply | cores to deliver | to clients, Mbit/s |",
        "| --- |" + " ---: |" * 11,
    ]
    for name, load in cases:
        load = replace(load, nodes=max(load.nodes, nodes_needed(load)))
        got = play(load)
        lines.append(
            f"| {name} | {load.connections:,} | {load.publishes_per_s:,.0f} | {load.nodes} | {got.connections_per_node:,.0f} "
            f"| {got.memory_gb:.1f} | {got.feed_mbit:.1f} | {got.wanted_share:.0%} | {got.deliveries_per_s:,.0f} "
            f"| {got.cores_apply:.2f} | {got.cores_delivery:.2f} | {got.clients_mbit:,.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=float)
    parser.add_argument("--nodes", type=int, default=1, help="at least so many")
    parser.add_argument("--topics", type=float, default=1e6)
    parser.add_argument("--subscriptions", type=int, default=5, help="of each connection")
    parser.add_argument("--publishes", type=float, default=20_000, help="a second")
    parser.add_argument("--bytes", type=int, default=256, help="of a message")
    parser.add_argument("--zipf", type=float, default=0.9, help="0: all topics are alike")
    got = parser.parse_args()
    cases = CASES
    if got.connections:
        cases = [("yours", Load(
            int(got.connections), got.nodes, topics=int(got.topics), subscriptions=got.subscriptions,
            publishes_per_s=got.publishes, message_bytes=got.bytes, zipf=got.zipf,
        ))]
    print("\n".join(table(cases)))


if __name__ == "__main__":
    main()
