"""Checkpoints: the stream is purged of what they have, and a node for which the stream does not go back far enough begins with one."""

import json
import random
import re
import shutil
import time
import unittest

from case import ClusterCase
from cluster import Node, until
from crowd import Crowd, Http, whole_log
from nats import Nats

LOG, CHECKPOINTS = "TAILWIRE", "TAILWIRE-checkpoints"
BODY = "x" * 20_000
ROUNDS = 4
# Of the checkpoint that is passed over, and of the one that is not.
PASSED_OVER, BEGINS = "an older one is tried", "a store begins with a checkpoint"


class CheckpointCase(ClusterCase):
    """A cluster that makes checkpoints often, and what is asked of it."""

    MORE = ("--checkpoint-bytes", "100000")

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.nats = cls.enterClassContext(Nats(cls.cluster.servers[0].port))

    def setUp(self) -> None:
        self.number = 0
        for node in self.cluster.nodes:
            if not node.is_alive:
                node.start()
        for node in self.cluster.nodes:
            self.cluster.wait_for(node)
        self.http = Http(self.cluster.nodes[0].port)

    def tearDown(self) -> None:
        self.http.close()

    def reconnect(self) -> None:
        self.http.close()
        self.http = Http(self.cluster.nodes[0].port)

    def stream(self) -> dict:
        return self.nats.ask(f"$JS.API.STREAM.INFO.{LOG}")["state"]

    def first(self) -> int:
        """The oldest message of the log's stream."""
        return self.stream()["first_seq"]

    def wholes(self) -> list[dict]:
        """The checkpoints that are whole, in the order in which they came to be so."""
        found, sequence = [], 1
        while answer := self.nats.message(CHECKPOINTS, {"seq": sequence, "next_by_subj": f"{LOG}.checkpoints.whole"}):
            sequence = answer[0] + 1
            found.append(json.loads(answer[1]))
        return found

    def made(self) -> int:
        """How many checkpoints nodes say that they made."""
        return sum(node.said.count("a checkpoint was made") for node in self.cluster.nodes)

    def damage(self, checkpoint: dict) -> None:
        self.nats.ask(f"$JS.API.STREAM.MSG.DELETE.{CHECKPOINTS}", {"seq": checkpoint["last"]})

    def publish(self, topic: str, body: str, http: Http | None = None, **headers: str) -> dict:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = (http or self.http).request("POST", f"/topics/{topic}", body.encode(), {"content-type": "text/plain"} | named)
        self.assertEqual(answer.status, 201, answer.body)
        return answer.json

    def publish_bulk(self, http: Http | None = None) -> None:
        self.number += 1
        self.publish(f"bulk/{self.number % 3}", BODY, http)

    def grow_until(self, what: str, holds) -> None:
        """Publishes until something holds: checkpoints are due by what comes."""

        def grown() -> bool:
            for _ in range(10):
                self.publish_bulk()
            return holds()

        until(lambda: f"{what}: {[node.said[-600:] for node in self.cluster.nodes]}", grown, 120)

    def grow_until_purged(self) -> None:
        """Publishes until the stream is purged of what it has by now."""
        last = self.stream()["last_seq"]
        self.grow_until("the stream is purged", lambda: self.first() > last)

    def fill(self) -> dict:
        """All kinds of state. Answers what is asked of every node later."""
        options = {"bulk/*": {"max_messages": 5}, "large/*": {"max_messages": 1}}
        options |= {"compact/*": {"compact": True}, "kept/*": {"max_messages": 3}}
        for term, body in options.items():
            answer = self.http.request("PUT", f"/options/{term}", json.dumps(body).encode(), {"content-type": "application/json"})
            self.assertEqual(answer.status, 200, answer.body)
        receipts = {}
        for number in range(30):
            headers = {"content-type": "text/plain"}
            path = f"/topics/compact/a?key=k{number % 4}"
            self.assertEqual(self.http.request("POST", path, f"{number}".encode(), headers).status, 201)
            receipts.setdefault("kept", self.publish("kept/a", f"{number}"))
            self.publish("kept/a", f"{number}")
        self.publish("gone/a", "gone")
        self.assertEqual(self.http.request("DELETE", "/topics/gone/a").status, 204)
        removed = self.publish("plain/0", "removed")
        self.assertEqual(self.http.request("DELETE", f"/messages/{removed['cursor']}").status, 204)
        receipts["key"] = self.publish("once/a", "once", idempotency_key='"checkpoint"')
        receipts["large"] = self.publish("large/a", "y" * 600_000)
        for number in range(50):
            self.publish(f"plain/{number % 5}", f"{number}")
        return receipts

    def state(self, node: Node, receipts: dict) -> list:
        """All that a client can ask of it."""
        http = Http(node.port)
        try:
            asked = ["/topics?limit=1000", "/options/bulk/*", "/options/compact/*", "/options/kept/*"]
            asked += [f"/topics/{topic}?after=earliest&limit=1000&format=json" for topic in ("compact/**", "kept/**", "once/**", "plain/**")]
            asked += [f"/topics/kept/a?after={receipts['kept']['cursor']}&format=json"]
            asked += ["/topics/gone/a?after=earliest&format=json", f"/messages/{receipts['large']['cursor']}"]
            answers = [(path, http.get(path)) for path in asked]
            replayed = self.publish("once/a", "once", http, idempotency_key='"checkpoint"')
            self.assertEqual(replayed["cursor"], receipts["key"]["cursor"], "a key is known")
            other = http.request("POST", "/topics/once/a", b"never", {"if-none-match": "*"})
            self.assertEqual(other.status, 412)
            # When to ask again depends on when others asked.
            bodies = [(path, answer.status, re.sub(rb',"retry_after_ms":\d+', b"", answer.body)) for path, answer in answers]
            return bodies + whole_log(node.port)
        finally:
            http.close()

    def said_of_replica(self, node: Node, before: int) -> str:
        """Its log since a place; but what it says of a copy for a checkpoint is not meant."""
        return "\n".join(line for line in node.said[before:].splitlines() if "/checkpoint" not in line)

    def restart(self, node: Node, *, is_blank: bool) -> str:
        """Begins it again. Answers what it says of that."""
        if is_blank:
            shutil.rmtree(node.data / "replica")
        before = len(node.said)
        node.start()
        self.cluster.wait_for(node)
        return self.said_of_replica(node, before)

    def check_all(self, receipts: dict) -> None:
        for node in self.cluster.nodes:
            until("all keep up", lambda node=node: node.is_ready)
        # What was published before is there once this is; what retention decides after that may come between two answers.
        cursor = self.publish("level/a", "level")["cursor"]
        states: list = []

        def are_equal() -> bool:
            states[:] = [self.state(node, receipts) for node in self.cluster.nodes]
            return all(state == states[0] for state in states)

        for node in self.cluster.nodes:
            http = Http(node.port)
            self.assertEqual(http.get(f"/messages/{cursor}").status, 200)
            http.close()
        until(lambda: f"all nodes have the same: {differences(states)}", are_equal, 20)


def differences(states: list) -> list:
    return [pair for state in states[1:] for pair in zip(states[0], state, strict=False) if pair[0] != pair[1]][:4]


class Checkpoints(CheckpointCase):
    def test_a_blank_node_and_one_that_was_away_begin_with_a_checkpoint(self) -> None:
        receipts = self.fill()
        blank, away = self.cluster.nodes[2], self.cluster.nodes[1]
        self.assertEqual(away.stop(), 0)
        self.grow_until_purged()
        self.assertIn(BEGINS, self.restart(away, is_blank=False))
        self.assertEqual(blank.stop(), 0)
        self.assertIn(BEGINS, self.restart(blank, is_blank=True))
        self.check_all(receipts)
        # A node that has what it needs goes on with that.
        self.assertEqual(blank.stop(), 0)
        self.assertNotIn(BEGINS, self.restart(blank, is_blank=False))
        self.check_all(receipts)

    def test_a_damaged_one_is_passed_over_for_an_older(self) -> None:
        receipts = self.fill()
        self.grow_until_purged()
        # So that no other one comes meanwhile.
        for node in self.cluster.nodes:
            self.assertEqual(node.stop(), 0)
        wholes = self.wholes()
        self.assertGreaterEqual(len(wholes), 2)
        newest = max(wholes, key=lambda one: one["sequence"])
        self.damage(newest)
        # One of another log, one that has no parts, one that is nothing, and one of what the stream had before it was restored.
        last = self.stream()["last_seq"]
        far = newest | {"sequence": last, "needs": last + 1, "id": "00000000000000aa"}
        lost = newest | {"sequence": last + 100, "needs": last + 101}
        for forged in (far | {"log": "0" * 32}, far, {"version": 9}, lost):
            self.nats.ask(f"{LOG}.checkpoints.whole", forged)
        said = self.restart(self.cluster.nodes[2], is_blank=True)
        self.assertEqual(said.count(PASSED_OVER), 2, said)
        self.assertEqual(said.count(BEGINS), 1, said)
        self.assertIn("a checkpoint is of a stream that was lost, and is removed", said)
        self.assertNotIn(lost["sequence"], [whole.get("sequence") for whole in self.wholes()])
        for node in self.cluster.nodes[:2]:
            self.restart(node, is_blank=False)
        self.reconnect()
        self.check_all(receipts)
        # A damaged one holds up no purge: the next one is made from the older.
        self.grow_until_purged()

    def test_what_a_node_has_yet_to_apply_is_not_purged(self) -> None:
        self.fill()
        applied = self.stream()["last_seq"]
        report = {"node": "slow", "incarnation": "f" * 16, "applied": applied, "digest": "0" * 32, "health": "behind"}
        made = self.made()

        def are_enough() -> bool:
            # As a node does every second.
            self.nats.tell(f"{LOG}.nodes", report)
            self.assertLessEqual(self.first(), applied + 1)
            # The first may have been begun before. The second is what the stream would be purged up to after the third, and the
            # fourth comes after that.
            return self.made() >= made + 4

        self.grow_until("checkpoints are made", are_enough)
        # It is gone, and nothing is left for it.
        self.grow_until("the stream is purged", lambda: self.first() > applied + 1)

    def test_a_running_node_that_was_cut_off_for_long_begins_with_a_checkpoint(self) -> None:
        receipts = self.fill()
        node = self.cluster.nodes[2]
        before, process = len(node.said), node.process
        links = self.cluster.detach(2)
        self.grow_until_purged()
        self.assertEqual(node.status(), "detached")
        for link in links:
            link.mend()
        until(lambda: f"it begins with a checkpoint: {node.said[before:]}", lambda: BEGINS in self.said_of_replica(node, before))
        self.cluster.wait_for(node)
        self.assertIs(node.process, process)
        self.check_all(receipts)

    def test_nodes_may_die_at_any_step(self) -> None:
        dice = random.Random(7)
        receipts = self.fill()
        crowd = Crowd([node.port for node in self.cluster.nodes], 7, publishers=3, readers=3).start()
        self.addCleanup(crowd.stop_readers)
        try:
            for number in range(ROUNDS):
                maker = self.grow_until_made()
                time.sleep(dice.uniform(0, 1.5))
                maker.kill()
                if dice.random() < 0.5:
                    shutil.rmtree(maker.data / dice.choice(["replica", "checkpoint"]), ignore_errors=True)
                maker.start()
                self.cluster.wait_for(maker)
                print(f"round {number}: node {maker.number}; the stream begins at {self.first()}", flush=True)
                self.assertEqual(crowd.errors, [])
        finally:
            crowd.stop_publishers()
        acknowledged = crowd.acknowledged
        for reader in crowd.readers:
            until("all is read", lambda reader=reader: reader.errors or acknowledged.keys() <= reader.seen.keys())
        crowd.stop_readers()
        self.assertEqual(crowd.errors, [])
        self.reconnect()
        self.grow_until_purged()
        for node in self.cluster.nodes[1:]:
            self.assertEqual(node.stop(), 0)
            self.restart(node, is_blank=True)
        self.check_all(receipts)
        bodies = [json.loads(line[4]) for line in whole_log(self.cluster.nodes[2].port)]
        self.assertEqual(len(bodies), len(set(bodies)), "something is there twice")
        self.assertEqual(acknowledged.keys() - set(bodies), set(), "something acknowledged is lost")

    def grow_until_made(self) -> Node:
        """Publishes until a node is at making a checkpoint, and gives that."""

        def maker() -> Node | None:
            for node in self.cluster.nodes:
                http = Http(node.port)
                self.publish_bulk(http)
                http.close()
            return next((node for node in self.cluster.nodes if any(node.data.glob("checkpoint*"))), None)

        return until(lambda: f"a checkpoint is made: {[node.said[-600:] for node in self.cluster.nodes]}", maker)


class FirstCheckpoint(CheckpointCase):
    NODES = 2

    def test_without_a_good_one_the_stream_is_followed_or_nothing_is_served(self) -> None:
        receipts = self.fill()
        self.grow_until("there is a checkpoint", self.made)
        node = self.cluster.nodes[1]
        # Before there is another one.
        for each in self.cluster.nodes:
            each.kill()
        self.assertEqual(self.first(), 1, "one checkpoint is no reason to purge")
        for whole in self.wholes():
            self.damage(whole)
        said = self.restart(node, is_blank=True)
        self.assertGreaterEqual(said.count(PASSED_OVER), 1, said)
        self.assertNotIn(BEGINS, said)
        self.restart(self.cluster.nodes[0], is_blank=False)
        self.reconnect()
        self.check_all(receipts)
        # The stream does not have its beginning any more, and no checkpoint is good.
        self.grow_until_purged()
        for each in self.cluster.nodes:
            self.assertEqual(each.stop(), 0)
        for whole in self.wholes():
            self.damage(whole)
        shutil.rmtree(node.data / "replica")
        node.start()
        self.assertEqual(node.process.wait(60), 1)
        self.assertIn("there is no good checkpoint that it could begin with", node.said)
        # Nodes that have what they need are not concerned, and make others.
        self.restart(self.cluster.nodes[0], is_blank=False)


if __name__ == "__main__":
    unittest.main()
