"""Tests that share one cluster."""

import tempfile
import unittest
from pathlib import Path

from cluster import Cluster


class ClusterCase(unittest.TestCase):
    """The cluster is there for all tests of a class, and may be changed by them."""

    NODES = 3
    # More of each node's command line.
    MORE: tuple[str, ...] = ()

    @classmethod
    def setUpClass(cls) -> None:
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.cluster = cls.enterClassContext(Cluster(Path(folder), cls.NODES, more=list(cls.MORE)))
        cls.cluster.start()
