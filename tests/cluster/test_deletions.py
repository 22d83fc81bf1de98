"""A message and a key that one node deletes are gone at all of them: also at one that was away, was killed, or begins with nothing."""

import json
import shutil
import threading
import unittest

from case import ClusterCase
from cluster import PATIENCE_S, Node, until
from crowd import Http, WebSocket
from wire import pages, resume_everywhere

TEXT = {"content-type": "text/plain"}


class Deletions(ClusterCase):
    def request(self, node: Node, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
        """On a connection of its own, since nodes come and go."""
        http = Http(node.port)
        try:
            return http.request(method, path, body, headers)
        finally:
            http.close()

    def publish(self, node: Node, topic: str, body: str, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.request(node, "POST", f"/topics/{topic}", body.encode(), TEXT | named)
        self.assertEqual(answer.status, 201, answer.body)
        return answer.json["cursor"]

    def drop(self, node: Node, cursor: str) -> None:
        answer = self.request(node, "DELETE", f"/messages/{cursor}")
        self.assertEqual(answer.status, 204, answer.body)

    def until_gone(self, node: Node, cursor: str) -> None:
        def is_gone() -> bool:
            answer = self.request(node, "GET", f"/messages/{cursor}")
            return (answer.status, answer.code) == (410, "message-gone")

        until(f"{cursor} is gone at node {node.number}", is_gone)

    def held(self, node: Node, topic: str) -> list[tuple]:
        http = Http(node.port)
        try:
            lines = list(pages(http, f"/topics/{topic}"))
        finally:
            http.close()
        self.assertNotIn("gap", [line["kind"] for line in lines])
        messages = [line for line in lines if line["kind"] == "message"]
        return [(line["cursor"], line["time"], line.get("key"), line.get("deleted", False), line.get("data")) for line in messages]

    def restart(self, node: Node, blank: bool = False) -> None:
        if blank:
            shutil.rmtree(node.data / "replica")
        node.start()
        until(f"node {node.number} is back: {node.said[-2000:]}", lambda: node.is_ready)

    def check_everywhere(self, topic: str, cursors: list[str], gone: list[int]) -> None:
        """At every node and on each transport: the rest, a gap for those who have missed one, and none for others."""
        left = [cursor for number, cursor in enumerate(cursors) if number not in gone]
        for node in self.cluster.nodes:
            for number in gone:
                self.until_gone(node, cursors[number])
            self.assertEqual([line[0] for line in self.held(node, topic)], left, f"node {node.number}")
            http = Http(node.port)
            try:
                for transport, lines in resume_everywhere(http, node.port, f"/topics/{topic}", cursors[gone[0] - 1]).items():
                    where = f"{transport} at node {node.number}"
                    gaps = [(line["reason"], line["to"]) for line in lines if line["kind"] == "gap"]
                    self.assertEqual(gaps, [("deleted", cursors[gone[-1]])], where)
                    rest = [line["cursor"] for line in lines if line["kind"] == "message"]
                    self.assertEqual(rest, [cursor for cursor in left if cursor > cursors[gone[0]]], where)
                for transport, lines in resume_everywhere(http, node.port, f"/topics/{topic}", cursors[gone[-1]]).items():
                    self.assertNotIn("gap", [line["kind"] for line in lines], f"{transport} at node {node.number}")
            finally:
                http.close()
        first = self.held(self.cluster.nodes[0], topic)
        for node in self.cluster.nodes[1:]:
            self.assertEqual(self.held(node, topic), first)

    def test_a_message_is_gone_everywhere(self) -> None:
        one, other, third = self.cluster.nodes
        topic = "gone/a"
        cursors = [self.publish(self.cluster.nodes[number % 3], topic, f"message {number}") for number in range(40)]
        self.drop(one, cursors[7])
        self.check_everywhere(topic, cursors, [7])
        # Another node says that it was there and is gone, and no node deletes it twice.
        for node in self.cluster.nodes:
            self.assertEqual(self.request(node, "DELETE", f"/messages/{cursors[7]}").code, "message-gone")
        # While a node is away, and by one that is killed as soon as it has said so.
        third.kill()
        self.drop(other, cursors[13])
        other.kill()
        self.restart(third)
        self.until_gone(third, cursors[13])
        self.restart(other)
        self.check_everywhere(topic, cursors, [7, 13])
        # One that begins with nothing, and meets the deletion after the message.
        self.drop(third, cursors[20])
        self.assertEqual(one.stop(), 0)
        self.restart(one, blank=True)
        self.check_everywhere(topic, cursors, [7, 13, 20])
        # And once more, all at once.
        for node in self.cluster.nodes:
            node.kill()
        for node in self.cluster.nodes:
            self.restart(node)
        self.check_everywhere(topic, cursors, [7, 13, 20])

    def test_a_key_is_gone_everywhere(self) -> None:
        one, other, third = self.cluster.nodes
        topic = "gone/keys"
        options = json.dumps({"compact": True}).encode()
        answer = self.request(one, "PUT", f"/options/{topic}", options, {"content-type": "application/json"})
        self.assertEqual(answer.status, 200, answer.body)
        for number in range(12):
            self.publish(self.cluster.nodes[number % 3], topic, f"{number}", tailwire_key=f"k{number % 4}")
        heard: dict[int, list[dict]] = {}
        sockets = {node.number: WebSocket(node.port, f"/topics/{topic}") for node in self.cluster.nodes}

        def listen(number: int) -> None:
            heard[number] = []
            for line in sockets[number].lines():
                if line["kind"] == "message":
                    heard[number].append(line)
                if line.get("key") == "end":
                    return

        listeners = [threading.Thread(target=listen, args=(number,)) for number in sockets]
        for thread in listeners:
            thread.start()
        deleted = self.request(one, "DELETE", f"/topics/{topic}?key=k2")
        self.assertEqual(deleted.status, 204, deleted.body)
        end = self.publish(one, topic, "end", tailwire_key="end")
        expect = {("k0", "8"), ("k1", "9"), ("k3", "11"), ("end", "end"), ("k2", None)}
        for node in self.cluster.nodes:
            # Not before it has both.
            self.assertEqual(self.request(node, "GET", f"/messages/{end}").status, 200)
            until(f"only the newest are held at node {node.number}", lambda node=node: self.keys(node, topic) == expect)
        for thread in listeners:
            thread.join(PATIENCE_S)
        for socket in sockets.values():
            socket.close()
        for number, lines in heard.items():
            of_key = [line for line in lines if line.get("key") == "k2"]
            self.assertEqual([(line["cursor"], line["deleted"], "data" in line) for line in of_key],
                             [(deleted.headers["tailwire-cursor"], True, False)], f"node {number}")
        # While a node is away, by one that is killed, and for one that begins with nothing.
        third.kill()
        self.assertEqual(self.request(other, "DELETE", f"/topics/{topic}?key=k3").status, 204)
        other.kill()
        self.restart(third)
        self.restart(other)
        self.assertEqual(one.stop(), 0)
        self.restart(one, blank=True)
        expect = expect - {("k3", "11")} | {("k3", None)}
        for node in self.cluster.nodes:
            until(f"the key is gone at node {node.number}", lambda node=node: self.keys(node, topic) == expect)
        first = self.held(one, topic)
        for node in (other, third):
            self.assertEqual(self.held(node, topic), first)

    def keys(self, node: Node, topic: str) -> set[tuple]:
        return {(key, None if is_deleted else data) for _, _, key, is_deleted, data in self.held(node, topic)}


if __name__ == "__main__":
    unittest.main()
