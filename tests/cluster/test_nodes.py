"""What three nodes promise together, and what a node refuses."""

import json
import random
import shutil
import subprocess
import tempfile
import threading
import time
import unittest
from collections import Counter
from pathlib import Path

from case import ClusterCase
from cluster import BROKER, Cluster, free_ports, until
from crowd import whole_log
from wire import Http, WebSocket, pages, resume_everywhere

ROUNDS = 60
HOPS = 150


class Nodes(ClusterCase):
    def setUp(self) -> None:
        self.https = [Http(node.port) for node in self.cluster.nodes]

    def tearDown(self) -> None:
        for http in self.https:
            http.close()

    def reconnect(self, number: int) -> Http:
        self.https[number].close()
        self.https[number] = Http(self.cluster.nodes[number].port)
        return self.https[number]

    def publish(self, http: Http, topic: str, body: str, **headers: str) -> dict:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = http.request("POST", f"/topics/{topic}", body.encode(), {"content-type": "text/plain"} | named)
        self.assertEqual(answer.status, 201, answer.body)
        return answer.json

    def test_a_write_is_read_at_once_at_another_node(self) -> None:
        dice = random.Random(5)
        waits, publishes = [], []
        cursor = "earliest"
        for number in range(HOPS):
            one, other = dice.sample(range(3), 2)
            began = time.monotonic()
            receipt = self.publish(self.https[one], "hop/a", f"{number}")
            publishes.append(time.monotonic() - began)
            began = time.monotonic()
            # A page after the message before: with a cursor beyond what the node has, it waits.
            answer = self.https[other].get(f"/messages/{receipt['cursor']}")
            waits.append(time.monotonic() - began)
            self.assertEqual((answer.status, answer.body), (200, f"{number}".encode()))
            page = self.https[other].get(f"/topics/hop/a?after={cursor}&format=json").json
            self.assertEqual([line["data"] for line in page["messages"]], [f"{number}"])
            cursor = receipt["cursor"]
        wait, p99 = sorted(waits)[HOPS // 2], sorted(waits)[HOPS * 99 // 100]
        publish = sorted(publishes)[HOPS // 2]
        print(f"read at another node: median {wait * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms; published in {publish * 1000:.1f} ms")
        # What the stream tells by itself comes with the receipt. What is read from it after a pause takes 100 ms more.
        self.assertLess(wait, publish + 0.05)

    def test_one_cursor_at_every_node_on_every_transport(self) -> None:
        first = self.publish(self.https[0], "all/a", "0")["cursor"]
        for number in range(1, 40):
            self.publish(self.https[number % 3], "all/a", f"{number}")
        expect = [f"{number}" for number in range(1, 40)]
        for node, http in zip(self.cluster.nodes, self.https, strict=True):
            for transport, lines in resume_everywhere(http, node.port, "/topics/all/a", first).items():
                self.assertEqual([line["data"] for line in lines], expect, f"{transport} at node {node.number}")

    def test_conditions_and_keys_are_decided_once(self) -> None:
        for number in range(ROUNDS):
            topic = f"once/{number}"
            only = self.at_once(lambda at, topic=topic: self.request(at, topic, f"{at}", {"if-none-match": "*"}))
            self.assertEqual(sorted(answer.status for answer in only), [201, 412, 412])
            cursor = next(answer.json["cursor"] for answer in only if answer.status == 201)
            match = self.at_once(lambda at, t=topic, c=cursor: self.request(at, t, f"m{at}", {"if-match": f'"{c}"'}))
            self.assertEqual(sorted(answer.status for answer in match), [201, 412, 412])
            key = {"idempotency-key": f'"once-{number}"'}
            same = self.at_once(lambda at, t=topic, k=key: self.request(at, t, "same", k))
            self.assertEqual([answer.status for answer in same], [201] * 3)
            self.assertEqual(len({answer.json["cursor"] for answer in same}), 1)
            other = self.at_once(lambda at, t=topic, k=key: self.request(at, t, f"other {at}", k))
            self.assertEqual([answer.status for answer in other], [422] * 3)
            held = list(pages(self.https[number % 3], f"/topics/{topic}"))
            self.assertEqual(len([line for line in held if line["kind"] == "message"]), 3)

    def request(self, at: int, topic: str, body: str, headers: dict):
        return self.https[at].request("POST", f"/topics/{topic}", body.encode(), {"content-type": "text/plain"} | headers)

    def at_once(self, ask) -> list:
        answers: list = [None] * 3
        barrier = threading.Barrier(3)

        def run(at: int) -> None:
            barrier.wait()
            answers[at] = ask(at)

        threads = [threading.Thread(target=run, args=(at,)) for at in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def test_large_batches_are_whole(self) -> None:
        lines = "\n".join(json.dumps({"topic": f"large/{n % 50}", "data": f"{n:>90}"}) for n in range(10_000))
        headers = {"content-type": "application/x-ndjson"}
        answers = self.at_once(lambda at: self.https[at].request("POST", "/stream", lines.encode(), headers))
        self.assertEqual([answer.status for answer in answers], [201] * 3, answers[0].body[:300])
        for http in self.https:
            http.get(f"/messages/{answers[2].json['receipts'][-1]['cursor']}")
            http.get(f"/messages/{answers[1].json['receipts'][-1]['cursor']}")
            http.get(f"/messages/{answers[0].json['receipts'][-1]['cursor']}")
            held = [line["data"] for line in pages(http, "/topics/large/**") if line["kind"] == "message"]
            self.assertEqual(Counter(held), Counter({f"{n:>90}": 3 for n in range(10_000)}))
            self.assertEqual(held[:10_000], [f"{n:>90}" for n in range(10_000)])

    def test_pipelined_publishes_keep_their_order_through_a_kill(self) -> None:
        socket = WebSocket(self.cluster.nodes[0].port, "/stream")
        count, window = 3000, 48
        sent, done = 0, 0
        killed, last = None, ""
        socket.send_all([self.line(sent + at) for at in range(window)])
        sent += window
        for line in socket.lines():
            if line["kind"] == "error":
                self.fail(f"{line}")
            if line["kind"] != "ok" or "cursor" not in line:
                continue
            done, last = done + 1, line["cursor"]
            if done == count // 3:
                killed = self.cluster.leader()
                killed.kill()
            if done == count:
                break
            if sent < count:
                socket.send(self.line(sent))
                sent += 1
        socket.close()
        self.assertEqual(done, count)
        killed.start()
        until("the server is back", lambda: killed.is_ready)
        for number in range(3):
            until(f"node {number} is ready", lambda number=number: self.cluster.nodes[number].is_ready)
            http = self.reconnect(number)
            # One that lost its server is behind for a while before it says so.
            until(f"node {number} has all", lambda http=http: http.get(f"/messages/{last}").status == 200)
            self.assertEqual(self.read(http, "order/a"), [f"{n}" for n in range(count)], f"node {number}")

    def line(self, number: int) -> dict:
        return {"kind": "publish", "id": number, "topic": "order/a", "data": f"{number}", "type": "text/plain"}

    def read(self, http: Http, topic: str) -> list[str]:
        return [line["data"] for line in pages(http, f"/topics/{topic}") if line["kind"] == "message"]

    def test_a_node_is_rebuilt_with_the_same_cursors(self) -> None:
        for number in range(300):
            self.publish(self.https[number % 3], f"crowd/{number % 5}", f"rebuilt {number}")
        expect = whole_log(self.cluster.nodes[0].port)
        node = self.cluster.nodes[2]
        for _ in range(3):
            node.kill()
            node.start()
            until("it is back after a kill", lambda: node.is_ready)
            self.assertEqual(whole_log(node.port), expect)
        self.assertEqual(node.stop(), 0)
        shutil.rmtree(node.data / "replica")
        node.start()
        until("it is back without its folder", lambda: node.is_ready)
        self.assertEqual(whole_log(node.port), expect)
        # Damage is found, and the copy made again.
        self.assertEqual(node.stop(), 0)
        store = node.data / "replica" / "db"
        store.write_bytes(bytes(len(store.read_bytes())))
        node.start()
        until("it is back with a damaged folder", lambda: node.is_ready)
        self.assertEqual(whole_log(node.port), expect)
        self.assertIn("made again from the stream", node.said)
        self.reconnect(2)

    def test_retention_and_options_are_the_same_everywhere(self) -> None:
        body = json.dumps({"max_messages": 5}).encode()
        answer = self.https[1].request("PUT", "/options/kept/*", body, {"content-type": "application/json"})
        self.assertEqual(answer.status, 200, answer.body)
        for number in range(60):
            self.publish(self.https[number % 3], "kept/a", f"{number}")
        expect = [f"{number}" for number in range(55, 60)]
        for http in self.https:
            until("retention is carried out", lambda http=http: self.read(http, "kept/a") == expect)
            self.assertEqual(http.get("/options/kept/*").json["max_messages"], 5)
        self.assertEqual(self.https[2].request("DELETE", "/topics/kept/a").status, 204)
        for http in self.https:
            until("it is removed", lambda http=http: self.read(http, "kept/a") == [])

    def test_a_node_without_nats_reads_and_says_so(self) -> None:
        receipt = self.publish(self.https[1], "away/a", "before")
        self.assertEqual(self.https[1].get(f"/messages/{receipt['cursor']}").status, 200)
        links = self.cluster.detach(1)
        node = self.cluster.nodes[1]
        try:
            until("it says that it is detached", lambda: node.status() == "detached")
            self.assertEqual(self.read(self.reconnect(1), "away/a"), ["before"])
            later = self.publish(self.https[0], "away/a", "meanwhile")
            answer = self.https[1].get(f"/messages/{later['cursor']}")
            self.assertEqual((answer.status, answer.code), (503, "behind"))
            answer = self.request(1, "away/a", "in vain", {"idempotency-key": '"away"'})
            self.assertEqual(answer.status, 503)
        finally:
            for link in links:
                link.mend()
        until("it is back", lambda: node.is_ready)
        first = self.publish(self.reconnect(1), "away/a", "in vain", idempotency_key='"away"')
        again = self.publish(self.https[2], "away/a", "in vain", idempotency_key='"away"')
        self.assertEqual(first["cursor"], again["cursor"])
        self.https[1].get(f"/messages/{first['cursor']}")
        self.assertEqual(self.read(self.https[1], "away/a"), ["before", "meanwhile", "in vain"])

    def test_the_status_shows_servers_and_nodes(self) -> None:
        for node in self.cluster.nodes:
            until("all are ready", lambda node=node: node.is_ready)
        urls = ",".join(f"nats://127.0.0.1:{server.port}" for server in self.cluster.servers)

        def status() -> str | None:
            command = [BROKER, "cluster", "status", "--cluster", urls]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            return ran.stdout if ran.returncode == 0 else None

        said = until("all is well", status)
        for name in ("n0", "n1", "n2"):
            self.assertIn(f"server   {name}: current", said)
        for name in ("b0", "b1", "b2"):
            self.assertIn(f"node     {name}: good", said)


class Refusals(unittest.TestCase):
    def refusal(self, *args: str, data: Path | None = None) -> str:
        with tempfile.TemporaryDirectory() as folder:
            command = [BROKER, "serve", "--listen", "127.0.0.1:0", "--data", str(data or Path(folder) / "d"), *args]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(ran.returncode, 1, ran.stderr)
            return ran.stderr.splitlines()[-1]

    def test_what_would_break_a_promise_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), nodes=1, sync='"2m"') as cluster:
            cluster.start_servers()
            servers = ",".join(f"nats://127.0.0.1:{server.port}" for server in cluster.servers)
            monitors = ",".join(f"http://127.0.0.1:{server.monitor}" for server in cluster.servers)
            self.assertIn("name their monitors", self.refusal("--cluster", servers))
            unsynced = self.refusal("--cluster", servers, "--cluster-monitors", monitors)
            self.assertIn("sync_interval: always", unsynced)
            # A trial goes without, and makes a stream of one replica; that is too few for anybody else.
            trial = [BROKER, "serve", "--listen", f"127.0.0.1:{free_ports(1)[0]}", "--data", f"{folder}/trial"]
            ended = subprocess.Popen(
                [*trial, "--cluster", servers, "--replicas", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            try:
                while line := ended.stdout.readline():
                    if b"address" in line:
                        break
            finally:
                ended.terminate()
                ended.wait(30)
                ended.stdout.close()
            # Of the folder of a node that is alone.
            alone = Path(folder) / "alone"
            alone.mkdir()
            (alone / "db").write_bytes(b"")
            said = self.refusal("--cluster", servers, "--replicas", "1", data=alone)
            self.assertIn("alone", said)
            nowhere = f"nats://127.0.0.1:{free_ports(1)[0]}"
            self.assertIn(nowhere, self.refusal("--cluster", nowhere, "--replicas", "1"))


if __name__ == "__main__":
    unittest.main()
