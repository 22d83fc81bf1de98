"""What an operator, a disk or a clock does to the order: it leads to a gap or a stop, and never to silence."""

import json
import shutil
import tempfile
import time
import unittest
from datetime import datetime
from pathlib import Path

from cluster import Cluster, Node, until
from crowd import whole_log
from nats import Nats
from wire import Http, pages

STREAM = "TAILWIRE"
HOUR_S = 3600
MESSAGES = 30
LOST = 10


def publish(node: Node, topic: str, body: str, **headers: str):
    http = Http(node.port)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return http.request("POST", f"/topics/{topic}", body.encode(), {"content-type": "text/plain"} | named)
    finally:
        http.close()


def lines(node: Node, topic: str) -> list[dict]:
    http = Http(node.port)
    try:
        return [line for line in pages(http, f"/topics/{topic}") if line["kind"] == "message"]
    finally:
        http.close()


class Stream(unittest.TestCase):
    def test_nothing_that_is_done_to_the_stream_passes_in_silence(self) -> None:
        with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), nodes=2).start() as cluster:
            self.one, self.other = cluster.nodes
            receipts = []
            for number in range(MESSAGES):
                answer = publish(cluster.nodes[number % 2], "crowd/0", f"{number}")
                self.assertEqual(answer.status, 201, answer.body)
                receipts.append(answer.json)
            before = whole_log(self.one.port)
            with Nats(cluster.servers[0].port) as nats:
                # An entry can't be taken out of it.
                said = nats.refusal(f"$JS.API.STREAM.MSG.DELETE.{STREAM}", {"seq": 3})
                self.assertIn("delete not permitted", said)
                self.delete(nats)
                self.restore_older(cluster, nats, before, receipts)
                self.purge(nats)
                self.make_hole(nats)

    def delete(self, nats: Nats) -> None:
        info = nats.ask(f"$JS.API.STREAM.INFO.{STREAM}")
        last = info["state"]["last_seq"]
        self.messages = [nats.message(STREAM, {"seq": sequence})[1] for sequence in range(1, last + 1)]
        self.config = info["config"]
        nats.ask(f"$JS.API.STREAM.DELETE.{STREAM}")
        for node in (self.one, self.other):
            until("it says so", lambda node=node: node.status() in ("misconfigured", "detached"))
            self.assertEqual(len(whole_log(node.port)), MESSAGES, "what is stored is read")
        self.assertEqual(publish(self.other, "crowd/0", "in vain").status, 503)
        # It would send that again.
        self.other.kill()

    def restore_older(self, cluster: Cluster, nats: Nats, before: list, receipts: list) -> None:
        """As from a backup: what the stream had, but for the newest."""
        nats.ask(f"$JS.API.STREAM.CREATE.{STREAM}", self.config)
        for number, message in enumerate(self.messages[:-LOST], 1):
            self.assertEqual(nats.ask(f"{STREAM}.entries", message)["seq"], number)
        self.assertEqual(self.one.process.wait(60), 1)
        self.assertIn("the stream ends with message", self.one.said.splitlines()[-1])
        for node in (self.one, self.other):
            node.start()
            self.assertEqual(node.process.wait(60), 1)
            self.assertIn("delete the node's folder `replica`", node.said.splitlines()[-1])
            shutil.rmtree(node.data / "replica")
        for node in (self.one, self.other):
            node.start()
        for node in (self.one, self.other):
            cluster.wait_for(node)
            after = whole_log(node.port)
            self.assertTrue(MESSAGES - LOST <= len(after) < MESSAGES, after)
            # Times are those of the restored stream.
            expect = [(cursor, topic, *rest) for cursor, topic, _, *rest in before[: len(after)]]
            self.assertEqual([(cursor, topic, *rest) for cursor, topic, _, *rest in after], expect)
            http = Http(node.port)
            answer = http.get(f"/topics/crowd/0?after={receipts[-1]['cursor']}&format=json")
            self.assertEqual((answer.status, answer.json.get("reason")), (410, "rewound"), answer.body)
            http.close()
        self.use_places_again(receipts)

    def use_places_again(self, receipts: list) -> None:
        """The stream gives its numbers a second time. No cursor stands for two messages, and none that is lost passes in silence."""
        given = {receipt["cursor"] for receipt in receipts}
        lost = given - {line[0] for line in whole_log(self.one.port)}
        self.assertGreaterEqual(len(lost), LOST - 1)
        for number in range(2 * LOST):
            answer = publish(self.one, "crowd/0", f"again {number}")
            self.assertEqual(answer.status, 201, answer.body)
            self.assertNotIn(answer.json["cursor"], given)
        for node in (self.one, self.other):
            http = Http(node.port)
            for cursor in lost:
                answer = http.get(f"/topics/crowd/0?after={cursor}&format=json")
                self.assertEqual((answer.status, answer.json.get("reason")), (410, "rewound"), answer.body)
                self.assertEqual(http.get(f"/messages/{cursor}").status, 404)
            http.close()

    def purge(self, nats: Nats) -> None:
        """By hand, and without a checkpoint."""
        nats.ask(f"$JS.API.STREAM.PURGE.{STREAM}", {"seq": 5})
        # Nodes that have it go on.
        for node in (self.one, self.other):
            self.assertEqual(publish(node, "crowd/0", "after the purge").status, 201)
        self.assertEqual(self.other.stop(), 0)
        shutil.rmtree(self.other.data / "replica")
        self.other.start()
        self.assertEqual(self.other.process.wait(60), 1)
        self.assertIn("the stream begins with message 5, and this node needs 1", self.other.said)
        self.assertEqual(publish(self.one, "crowd/0", "alone").status, 201)

    def make_hole(self, nats: Nats) -> None:
        """As a server that has lost a message from its middle."""
        self.one.kill()
        nats.ask(f"$JS.API.STREAM.DELETE.{STREAM}")
        nats.ask(f"$JS.API.STREAM.CREATE.{STREAM}", self.config | {"deny_delete": False})
        for message in self.messages:
            nats.ask(f"{STREAM}.entries", message)
        nats.ask(f"$JS.API.STREAM.MSG.DELETE.{STREAM}", {"seq": 7})
        nats.ask(f"$JS.API.STREAM.UPDATE.{STREAM}", self.config)
        shutil.rmtree(self.one.data / "replica")
        self.one.start()
        self.assertEqual(self.one.process.wait(60), 1)
        said = self.one.said.splitlines()[-1]
        self.assertIn("the stream has lost messages: this node needs 7, and the next that there is is 8; restore", said)


class Clocks(unittest.TestCase):
    def test_clocks_of_nodes_do_not_matter(self) -> None:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), nodes=2) as cluster:
            for node, offset in zip(cluster.nodes, (HOUR_S, -HOUR_S), strict=True):
                node.env = {"LD_PRELOAD": str(library), "FAKETIME": f"{offset:+d}", "NO_FAKE_STAT": "1"}
                node.env |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
            cluster.start()
            ahead, behind = cluster.nodes
            http = Http(ahead.port)
            for term, options in {"aged/*": {"max_age": HOUR_S // 2}, "kept/*": {"max_messages": 2}}.items():
                answer = http.request("PUT", f"/options/{term}", json.dumps(options).encode(), {"content-type": "application/json"})
                self.assertEqual(answer.status, 200, answer.body)
            http.close()
            for node in cluster.nodes:
                self.assertEqual(publish(node, "aged/a", "aged").status, 201)
            first = publish(ahead, "crowd/0", "once", idempotency_key='"once"').json
            self.assertEqual(publish(behind, "crowd/0", "once", idempotency_key='"once"').json["cursor"], first["cursor"])
            # Either of them decides what retention takes, while the other is away.
            for number, (node, away) in enumerate([(ahead, behind), (behind, ahead)]):
                self.assertEqual(away.stop(), 0)
                for at in range(5):
                    self.assertEqual(publish(node, f"kept/{number}", f"{at}").status, 201)
                until("retention is carried out", lambda node=node, number=number: len(lines(node, f"kept/{number}")) == 2)
                self.assertEqual([line["data"] for line in lines(node, "aged/a")], ["aged", "aged"])
                away.start()
                cluster.wait_for(away)
            logs = [whole_log(node.port) for node in cluster.nodes]
            self.assertEqual(logs[0], logs[1])
            for line in lines(ahead, "aged/a"):
                written = datetime.fromisoformat(line["time"]).timestamp()
                self.assertLess(abs(time.time() - written), 300, "the stream's time")


if __name__ == "__main__":
    unittest.main()
