"""Python's own HTTP client publishes and listens: nothing of Tailwire's is needed for that."""

import http.client
import json
import urllib.parse
import re
import unittest

from broker import PATIENCE_S, Broker

CURSOR = re.compile(r"^[0-9a-v]{8}-[0-9a-v]{11}$")


class HttpClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()
        cls.port = cls.broker.port

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def setUp(self):
        self.topic = "python/" + self._testMethodName
        self.connection = self.connect()

    def connect(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        self.addCleanup(connection.close)
        return connection

    def ask(self, method, path, body=None, headers=None, connection=None):
        """A request and its answer: the response, and its body, parsed if it is JSON."""
        connection = connection or self.connection
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        raw = response.read()
        is_json = "json" in (response.getheader("Content-Type") or "")
        return response, json.loads(raw) if is_json and raw else raw

    def publish(self, body, content_type="text/plain"):
        headers = {"Content-Type": content_type}
        response, receipt = self.ask("POST", f"/topics/{self.topic}", body.encode(), headers)
        self.assertEqual(response.status, 201, receipt)
        return receipt

    def stream(self, kind, after):
        connection = self.connect()
        connection.request("GET", f"/topics/{self.topic}?after={after}", headers={"Accept": kind})
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        self.assertEqual(response.getheader("Content-Type"), kind)
        self.addCleanup(response.close)
        return response

    def test_publish(self):
        response, receipt = self.ask("POST", f"/topics/{self.topic}", "hello", {"Content-Type": "text/plain"})
        self.assertEqual(response.status, 201)
        self.assertRegex(receipt["cursor"], CURSOR)
        self.assertEqual(receipt["topic"], self.topic)
        self.assertEqual(response.getheader("Location"), "../" * (1 + self.topic.count("/")) + "messages/" + receipt["cursor"])
        self.assertEqual(response.getheader("Tailwire-Cursor"), receipt["cursor"])
        _, body = self.ask("GET", urllib.parse.urljoin(f"/topics/{self.topic}", response.getheader("Location")))
        self.assertEqual(body, b"hello")

    def test_publish_in_chunks(self):
        parts = (part.encode() for part in ["one ", "two ", "žluťoučký"])
        self.connection.request("POST", f"/topics/{self.topic}", body=parts, encode_chunked=True)
        response = self.connection.getresponse()
        self.assertEqual(response.status, 201)
        response.read()
        _, page = self.ask("GET", f"/topics/{self.topic}")
        self.assertEqual([message["data"] for message in page["messages"]], ["one two žluťoučký"])

    def test_publish_in_chunks_too_large(self):
        parts = (b"x" * 65536 for _ in range(17))
        self.connection.request("POST", f"/topics/{self.topic}", body=parts, encode_chunked=True)
        response = self.connection.getresponse()
        self.assertEqual(response.status, 413)
        self.assertEqual(json.loads(response.read())["status"], 413)

    def test_a_large_message_is_refused_in_words(self):
        response, problem = self.ask("POST", f"/topics/{self.topic}", b"x" * (16 << 20))
        self.assertEqual(response.status, 413)
        self.assertEqual(problem["status"], 413)

    def test_one_connection_for_many_requests(self):
        for n in range(300):
            self.publish(str(n))
        _, page = self.ask("GET", f"/topics/{self.topic}?limit=1000")
        self.assertEqual([message["data"] for message in page["messages"]], [str(n) for n in range(300)])

    def test_pages(self):
        receipts = [self.publish(str(n)) for n in range(10)]
        path, heard = f"/topics/{self.topic}?limit=4", []
        while True:
            response, page = self.ask("GET", path)
            self.assertEqual(response.status, 200)
            self.assertEqual(response.getheader("Tailwire-Cursor"), page["cursor"])
            heard += page["messages"]
            link = re.match(r'<(\?[^>]*)>; rel="next"', response.getheader("Link"))[1]
            path = f"/topics/{self.topic}{link}"
            if not page["more"]:
                break
        self.assertEqual([message["cursor"] for message in heard], [receipt["cursor"] for receipt in receipts])
        response, page = self.ask("GET", path)
        self.assertEqual((response.status, page["messages"]), (202, []))
        self.assertGreaterEqual(int(response.getheader("Retry-After")) * 1000, page["retry_after_ms"])

    def test_long_poll(self):
        first = self.publish("first")
        connection = self.connect()
        headers = {"Prefer": "wait=25"}
        connection.request("GET", f"/topics/{self.topic}?after={first['cursor']}", headers=headers)
        second = self.publish("second")
        response = connection.getresponse()
        page = json.loads(response.read())
        self.assertEqual(response.status, 200)
        self.assertEqual(response.getheader("Preference-Applied"), "wait=25")
        self.assertEqual([message["cursor"] for message in page["messages"]], [second["cursor"]])

    def test_long_poll_that_is_over(self):
        response, page = self.ask("GET", f"/topics/{self.topic}?wait=1")
        self.assertEqual((response.status, page["messages"], page["more"]), (202, [], False))
        self.assertEqual(response.getheader("Preference-Applied"), "wait=1")
        self.assertEqual(response.getheader("Cache-Control"), "no-store")

    def test_server_sent_events(self):
        stored = self.publish("stored")
        stream = self.stream("text/event-stream", "earliest")
        self.assertRegex(stream.readline(), rb"^retry: \d+\n$")
        self.assertRegex(stream.readline(), rb"^id: [0-9a-v]{8}-[0-9a-v]{11}\n$")
        self.assertEqual(stream.readline(), b"event: tailwire.open\n")
        self.assertRegex(stream.readline(), rb'^data: \{"kind":"heartbeat","cursor":".*"\}\n$')
        self.assertEqual(stream.readline(), b"\n")
        block = [f"id: {stored['cursor']}\n", "data: stored\n", "\n"]
        self.assertEqual([stream.readline().decode() for _ in range(3)], block)
        while b"caught_up" not in stream.readline():
            pass
        live = self.publish("a\nb")
        lines = [stream.readline().decode() for _ in range(6)]
        start = lines.index(f"id: {live['cursor']}\n")
        while len(lines) < start + 4:
            lines.append(stream.readline().decode())
        self.assertEqual(lines[start + 1 : start + 4], ["data: a\n", "data: b\n", "\n"])

    def test_ndjson(self):
        stored = self.publish('{"a":[1,"ž"]}', "application/json")
        stream = self.stream("application/x-ndjson", "earliest")
        lines = (json.loads(stream.readline()) for _ in range(1000))
        self.assertEqual(next(lines)["kind"], "heartbeat")
        message = next(line for line in lines if line["kind"] == "message")
        expected = {"kind": "message", **stored, "type": "application/json", "data": {"a": [1, "ž"]}}
        self.assertEqual(message, expected)
        caught_up = next(line for line in lines if line["kind"] == "caught_up")
        self.assertEqual(caught_up["cursor"], stored["cursor"])
        live = self.publish("live")
        message = next(line for line in lines if line["kind"] == "message")
        self.assertEqual((message["cursor"], message["data"]), (live["cursor"], "live"))

    def test_batch(self):
        lines = "\n".join(json.dumps({"topic": f"{self.topic}/{n % 3}", "data": n}) for n in range(30))
        response, answer = self.ask("POST", "/stream", lines, {"Content-Type": "application/x-ndjson"})
        self.assertEqual(response.status, 201)
        self.assertIsNone(response.getheader("Location"))
        _, page = self.ask("GET", f"/topics/{self.topic}/*")
        cursors = [message["cursor"] for message in page["messages"]]
        self.assertEqual(cursors, [receipt["cursor"] for receipt in answer["receipts"]])

    def test_a_cursor_goes_from_one_to_the_other(self):
        receipts = [self.publish(str(n)) for n in range(6)]
        stream = self.stream("application/x-ndjson", receipts[0]["cursor"])
        lines = (json.loads(stream.readline()) for _ in range(1000))
        messages = (line for line in lines if line["kind"] == "message")
        self.assertEqual([next(messages)["data"] for _ in range(2)], ["1", "2"])
        _, page = self.ask("GET", f"/topics/{self.topic}?after={receipts[2]['cursor']}&wait=5")
        self.assertEqual([message["data"] for message in page["messages"]], ["3", "4", "5"])

    def test_a_problem(self):
        response, problem = self.ask("GET", "/topics/a//b")
        self.assertEqual(response.status, 400)
        self.assertEqual(response.getheader("Content-Type"), "application/problem+json")
        self.assertEqual((problem["status"], problem["code"]), (400, "topic-invalid"))


if __name__ == "__main__":
    unittest.main()
