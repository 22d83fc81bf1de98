"""How much of everything a run does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Of a run, or of one measurement."""

    rounds: int
    seconds: float
    # Where messages are few, so that there are many all the same.
    paced_seconds: float
    subscribers: int
    idle: int
    replayed: int
    growth_subscribers: list[int]
    growth_sizes: list[int]
    growth_topics: list[int]
    growth_replayed: list[int]
    # Connections at once.
    crowd: int
    # Connections that are opened as fast as the server takes them.
    storm: int
    # The topics among which patterns are searched for.
    patterned: int
    # Messages of the topic that is replayed beside live delivery: more than are read meanwhile.
    beside: int


FULL = Scale(
    rounds=3, seconds=5, paced_seconds=20, subscribers=1000, idle=5000, replayed=10_000,
    growth_subscribers=[10, 100, 1000, 10_000],
    growth_sizes=[64, 256, 1024, 4096, 16_384, 65_536],
    growth_topics=[1, 100, 10_000, 100_000, 1_000_000],
    growth_replayed=[10_000, 100_000, 1_000_000],
    crowd=15_000, storm=10_000, patterned=100_000, beside=1_000_000,
)
QUICK = Scale(
    rounds=1, seconds=1, paced_seconds=1, subscribers=1000, idle=500, replayed=10_000,
    growth_subscribers=[10, 100, 1000],
    growth_sizes=[64, 1024, 16_384],
    growth_topics=[1, 10_000],
    growth_replayed=[10_000],
    crowd=500, storm=500, patterned=10_000, beside=100_000,
)
