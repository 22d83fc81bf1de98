"""Rounds of faults under a crowd: nothing that was acknowledged is lost, nothing is there twice, no reader is told a gap that
is none, and all nodes end with the same.

`ROUNDS` sets how many there are, and `SEED` which."""

import os
import random
import tempfile
import time
import unittest
from pathlib import Path

from cluster import Cluster, until
from crowd import Crowd, whole_log

ROUNDS = int(os.environ.get("ROUNDS", "10"))
SEED = int(os.environ.get("SEED", "1"))
# How long publishing may stand still, beyond the fault itself: two elections, and a client's patience with a node.
PAUSE_S_MAX = 30


class Faults(unittest.TestCase):
    def test_nothing_is_lost_or_doubled(self) -> None:
        dice = random.Random(SEED)
        with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder)).start() as cluster:
            crowd = Crowd([node.port for node in cluster.nodes], SEED).start()
            kinds = [
                self.kill_leader, self.kill_node, self.freeze_servers, self.isolate_server, self.kill_all_servers,
                self.detach_node, self.kill_two_nodes, self.freeze_leader,
            ]  # fmt: skip
            order = []
            for number in range(ROUNDS):
                if not order:
                    order = kinds[:]
                    dice.shuffle(order)
                fault = order.pop()
                before, began = crowd.count, time.monotonic()
                fault(cluster, dice)
                until("all servers are there", lambda: all(server.is_ready for server in cluster.servers))
                for node in cluster.nodes:
                    cluster.wait_for(node)
                here = crowd.count
                until("publishing goes on", lambda here=here: crowd.count > here + 50 or crowd.errors, PAUSE_S_MAX)
                took = time.monotonic() - began
                print(f"round {number} {fault.__name__}: {crowd.count - before} acknowledged in {took:.1f} s", flush=True)
                self.assertEqual(crowd.errors, [])
            crowd.stop_publishers()
            acknowledged = crowd.acknowledged
            longest = max(one.longest_s for one in crowd.publishers)
            print(f"{len(acknowledged)} acknowledged, longest wait {longest:.1f} s", flush=True)
            self.check_readers(crowd, acknowledged)
            self.check_logs(cluster, crowd, acknowledged)

    def check_readers(self, crowd: Crowd, acknowledged: dict[str, str]) -> None:
        for reader in crowd.readers:
            until(
                f"{reader.title} has read all",
                lambda reader=reader: reader.errors or acknowledged.keys() <= reader.seen.keys(),
            )
        crowd.stop_readers()
        self.assertEqual(crowd.errors, [])
        for reader in crowd.readers:
            wrong = [body for body, cursor in acknowledged.items() if reader.seen[body] != cursor]
            self.assertEqual(wrong, [], f"{reader.title} saw another cursor than the receipt's")

    def check_logs(self, cluster: Cluster, crowd: Crowd, acknowledged: dict[str, str]) -> None:
        logs = [whole_log(node.port) for node in cluster.nodes]
        for log in logs[1:]:
            self.assertEqual(log, logs[0], "two nodes differ")
        bodies = [line[4].strip('"') for line in logs[0]]
        self.assertEqual(len(bodies), len(set(bodies)), "something is there twice")
        self.assertEqual(set(acknowledged) - set(bodies), set(), "something acknowledged is lost")
        sent = {body for one in crowd.publishers for body in one.sent}
        self.assertEqual(set(bodies) - sent, set(), "something is there that nobody sent")

    def kill_leader(self, cluster: Cluster, dice: random.Random) -> None:
        leader = cluster.leader()
        leader.kill()
        time.sleep(dice.uniform(0.5, 4))
        leader.start()

    def kill_all_servers(self, cluster: Cluster, dice: random.Random) -> None:
        for server in cluster.servers:
            server.kill()
        time.sleep(dice.uniform(0, 2))
        for server in dice.sample(cluster.servers, 3):
            server.start()

    def freeze_servers(self, cluster: Cluster, dice: random.Random) -> None:
        frozen = dice.sample(cluster.servers, dice.choice((1, 2)))
        for server in frozen:
            server.freeze()
        time.sleep(dice.uniform(1, 8))
        for server in frozen:
            server.thaw()

    def freeze_leader(self, cluster: Cluster, dice: random.Random) -> None:
        leader = cluster.leader()
        leader.freeze()
        time.sleep(dice.uniform(3, 8))
        leader.thaw()

    def isolate_server(self, cluster: Cluster, dice: random.Random) -> None:
        server = dice.choice([cluster.leader().number, dice.randrange(3)])
        links = cluster.isolate(server)
        time.sleep(dice.uniform(5, 10))
        for link in links:
            link.mend()

    def detach_node(self, cluster: Cluster, dice: random.Random) -> None:
        links = cluster.detach(dice.randrange(len(cluster.nodes)))
        time.sleep(dice.uniform(3, 12))
        for link in links:
            link.mend()

    def kill_node(self, cluster: Cluster, dice: random.Random) -> None:
        node = dice.choice(cluster.nodes)
        node.kill()
        time.sleep(dice.uniform(0, 2))
        node.start()

    def kill_two_nodes(self, cluster: Cluster, dice: random.Random) -> None:
        nodes = dice.sample(cluster.nodes, 2)
        for node in nodes:
            node.kill()
        time.sleep(dice.uniform(0, 1))
        for node in nodes:
            node.start()


if __name__ == "__main__":
    unittest.main()
