"""What the settings of nodes and of NATS change, and what of them a node notices."""

import json
import subprocess
import tempfile
import unittest

from case import ClusterCase
from cluster import BROKER, until
from crowd import Http
from nats import Nats

STREAM = "TAILWIRE"


class Settings(ClusterCase):
    NODES = 2
    MORE = ("--max-topics", "3")

    def setUp(self) -> None:
        self.https = [Http(node.port) for node in self.cluster.nodes]

    def tearDown(self) -> None:
        for http in self.https:
            http.close()

    def post(self, at: int, topic: str):
        return self.https[at].request("POST", f"/topics/{topic}", b"x", {"content-type": "text/plain"})

    def test_topics_have_a_bound_at_every_node(self) -> None:
        for number in range(3):
            self.assertEqual(self.post(number % 2, f"few/{number}").status, 201)
        for at in range(2):
            answer = self.post(at, "few/more")
            self.assertEqual((answer.status, answer.code), (429, "topics-too-many"))
            self.assertEqual(self.post(at, "few/0").status, 201)
        for http in self.https:
            names = [line["topic"] for line in http.get("/topics?prefix=few/").json["topics"]]
            self.assertEqual(names, ["few/0", "few/1", "few/2"])

    def test_a_stream_that_somebody_edits_is_noticed(self) -> None:
        with Nats(self.cluster.servers[0].port) as nats:
            config = nats.ask(f"$JS.API.STREAM.INFO.{STREAM}")["config"]
            for change in ({"max_age": 3_600_000_000_000}, {"discard": "old"}, {"max_bytes": 1 << 30}):
                nats.ask(f"$JS.API.STREAM.UPDATE.{STREAM}", config | change)
                for node in self.cluster.nodes:
                    until(f"it says so of {change}", lambda node=node: node.status() == "misconfigured")
                    self.assertIn(next(iter(change)), node.said)
                self.assertIn("flaw", self.status(1))
                nats.ask(f"$JS.API.STREAM.UPDATE.{STREAM}", config)
                for node in self.cluster.nodes:
                    until("it is as it was", lambda node=node: node.is_ready)
        self.assertNotIn("flaw", self.status(0))

    def status(self, code: int) -> str:
        urls = ",".join(f"nats://127.0.0.1:{server.port}" for server in self.cluster.servers)
        command = [BROKER, "cluster", "status", "--cluster", urls]

        def ran() -> str | None:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            return ended.stdout if ended.returncode == code else None

        return until(f"the status ends with {code}", ran)

    def test_a_node_starts_while_a_server_is_down(self) -> None:
        node, server = self.cluster.nodes[1], self.cluster.servers[2]
        self.assertEqual(node.stop(), 0)
        server.kill()
        try:
            node.start()
            self.cluster.wait_for(node)
            self.assertIn("are asked later whether they sync", node.said)
        finally:
            server.start()
        until("the server is back", lambda: server.is_ready)
        until("the node is ready", lambda: node.is_ready)

    def test_flags_that_mean_nothing_are_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [BROKER, "serve", "--listen", "127.0.0.1:0", "--data", f"{folder}/d"]
            more = ["--cluster", "nats://127.0.0.1:1", "--accept-loss"]
            ran = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, check=False)
            self.assertNotEqual(ran.returncode, 0)
            self.assertIn("--accept-loss has no meaning in a cluster", ran.stderr)


if __name__ == "__main__":
    unittest.main()
