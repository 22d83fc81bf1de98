"""The table of nodes on paper is what the program prints, and grows as it must."""

import unittest
from dataclasses import replace

import simulate
from cluster import ROOT
from simulate import CASES, Load, Popularity, nodes_needed, play


class Simulation(unittest.TestCase):
    def test_the_table_in_the_docs_is_what_it_prints(self):
        text = (ROOT / "docs/CLUSTER.md").read_text()
        for line in simulate.table(CASES):
            self.assertIn(line, text)

    def test_more_nodes_carry_less_each_and_all_of_the_feed(self):
        load = Load(1_000_000, 2)
        few, many = play(load), play(replace(load, nodes=20))
        self.assertGreater(few.cores_delivery, many.cores_delivery * 2)
        self.assertEqual(few.feed_mbit, many.feed_mbit)
        self.assertEqual(few.cores_apply, many.cores_apply)
        self.assertGreater(few.wanted_share, many.wanted_share)

    def test_what_one_order_cannot_carry_is_refused(self):
        with self.assertRaisesRegex(ValueError, "one committer"):
            nodes_needed(Load(1_000, 1, publishes_per_s=300_000))
        with self.assertRaisesRegex(ValueError, "index of all topics"):
            nodes_needed(Load(1_000, 1, topics=100_000_000))

    def test_popularity_is_that_of_all_topics_together(self):
        for power in [0, 0.9, 1]:
            topics = Popularity(50_000, power)
            shares = sum(topics.share(rank) for rank in range(1, 50_001))
            self.assertAlmostEqual(shares, 1, places=3)


if __name__ == "__main__":
    unittest.main()
