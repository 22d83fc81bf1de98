"""Pages, archives and messages through caches of the field: stored what may be, and nothing else."""

import base64
import concurrent.futures
import gzip
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../blackbox"))

from broker import PATIENCE_S, Broker, ask  # noqa: E402
from fronts import Nginx, Varnish  # noqa: E402

MESSAGES = 10_000
LIMIT = 200
CLIENTS = 1_000
CLIENTS_AT_A_TIME = 20
BATCH = {"Content-Type": "application/x-ndjson"}


def answered(broker):
    """Responses of the broker so far, of any status."""
    lines = [line for line in broker.metrics().splitlines() if line.startswith("tailwire_responses")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Cached(unittest.TestCase):
    """Each test runs through both caches, which are made anew for each."""

    arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.broker = Broker(*cls.arguments)

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def fronts(self):
        for kind in [Nginx, Varnish]:
            with self.subTest(kind.name):
                front = kind(self.broker.port)
                try:
                    yield front
                finally:
                    front.stop()

    def asked_of_the_broker(self, requests):
        """How many requests came to the broker; the question itself is one."""
        before = answered(self.broker)
        requests()
        return answered(self.broker) - before - 1

    def publish_numbers(self, topic, count, headers=None):
        """The cursor of the first message."""
        lines = "\n".join(json.dumps({"number": number, "text": "so it is " * 8}) for number in range(count))
        response, raw = ask(self.broker.port, "POST", f"/topics/{topic}", lines, {**BATCH, **(headers or {})})
        self.assertEqual(response.status, 201, raw)
        return json.loads(raw)["receipts"][0]["cursor"]


class Stored(Cached):
    def test_a_thousand_clients_replay_and_the_broker_sees_each_page_once(self):
        after = self.publish_numbers("replay", MESSAGES)
        pages = []
        while True:
            path = f"/topics/replay?after={after}&limit={LIMIT}"
            response, raw = ask(self.broker.port, "GET", path)
            page = json.loads(raw)
            if not page["more"]:
                break
            self.assertIn("immutable", response.getheader("Cache-Control"))
            pages.append(path)
            after = page["cursor"]
        self.assertEqual(len(pages), (MESSAGES - 1) // LIMIT)
        requests = "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in pages[:-1])
        requests += f"GET {pages[-1]} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

        def replay(port):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
                client.sendall(requests.encode())
                received = bytearray()
                while chunk := client.recv(1 << 20):
                    received += chunk
            return received.count(b'"topic":"replay"')

        for front in self.fronts():
            def clients(port=front.port):
                with concurrent.futures.ThreadPoolExecutor(CLIENTS_AT_A_TIME) as pool:
                    got = set(pool.map(replay, [port] * CLIENTS))
                self.assertEqual(got, {len(pages) * LIMIT})

            asked = self.asked_of_the_broker(clients)
            self.assertLessEqual(asked, 1.05 * len(pages))
            self.assertGreaterEqual(asked, len(pages))

    def test_archives_and_messages_are_stored_too_in_each_coding(self):
        cursor = self.publish_numbers("stored", 600)
        text = json.dumps({"text": "so it is " * 500})
        response, _ = ask(self.broker.port, "POST", "/topics/stored", text, {"Content-Type": "application/json"})
        message = f"/messages/{response.getheader('Tailwire-Cursor')}"
        own = json.loads(ask(self.broker.port, "GET", "/topics/stored?format=jsonfeed")[1])["_tailwire"]
        paths = [f"/{own['prev_archive']}", message, f"/topics/stored?after={cursor}&limit=100"]
        for front in self.fronts():
            for path in paths:
                def twice(port=front.port, path=path):
                    plain = ask(port, "GET", path)[1]
                    response, coded = ask(port, "GET", path, headers={"Accept-Encoding": "gzip"})
                    self.assertEqual(response.getheader("Content-Encoding"), "gzip")
                    self.assertEqual(gzip.decompress(coded), plain)
                    response, again = ask(port, "GET", path)
                    self.assertEqual((response.getheader("Content-Encoding"), again), (None, plain))
                    response, again = ask(port, "GET", path, headers={"Accept-Encoding": "gzip"})
                    self.assertEqual((response.getheader("Content-Encoding"), again), ("gzip", coded))

                # Varnish asks for gzip only, and decodes for others.
                self.assertLessEqual(self.asked_of_the_broker(twice), 2)

    def test_what_may_not_be_stored_is_asked_for_each_time(self):
        cursor = self.publish_numbers("unstored", 3)
        ask(self.broker.port, "POST", "/topics/gone", "1", {"Content-Type": "application/json"})
        gone = ask(self.broker.port, "POST", "/topics/gone", "2", {"Content-Type": "application/json"})[0]
        gone = gone.getheader("Tailwire-Cursor")
        self.assertEqual(ask(self.broker.port, "DELETE", "/topics/gone")[0].status, 204)
        cases = [
            ("/topics/nothing", 202),
            ("/topics/unstored", 200),
            (f"/topics/unstored?after={cursor}", 200),
            (f"/topics/gone?after={gone[:9]}00000000000&limit=1", 410),
            (f"/topics/gone?format=atom&archive={gone}", 410),
            (f"/messages/{gone}", 410),
            ("/messages/nonsense", 400),
            ("/nothing/here", 404),
            ("/topics/unstored?format=nonsense", 400),
        ]
        for front in self.fronts():
            for path, status in cases:
                def thrice(port=front.port, path=path, status=status):
                    for _ in range(3):
                        response, _ = ask(port, "GET", path)
                        self.assertEqual(response.status, status, path)

                self.assertEqual(self.asked_of_the_broker(thrice), 3, path)

            def streams(port=front.port):
                for _ in range(2):
                    url = f"http://127.0.0.1:{port}/topics/unstored?format=sse&after=earliest"
                    streamed = subprocess.run(["curl", "-sN", "--max-time", "1", url], capture_output=True, text=True)
                    self.assertIn('"number": 2', streamed.stdout)

            self.assertEqual(self.asked_of_the_broker(streams), 2)


class Live(Cached):
    """The document that readers subscribe to changes: a cache may give it for a tenth of the topic's pace."""

    def test_many_readers_of_a_feed_ask_the_broker_hardly_ever(self):
        path = "/topics/quiet?format=atom"
        self.publish_numbers("quiet", 1)
        # Once the topic has been silent for ten seconds.
        until = time.monotonic() + PATIENCE_S
        while "public" not in ask(self.broker.port, "GET", path)[0].getheader("Cache-Control"):
            self.assertLess(time.monotonic(), until)
            time.sleep(0.1)
        for front in self.fronts():
            began = time.monotonic()
            bodies = []

            def readers(port=front.port, bodies=bodies):
                for number in range(200):
                    response, raw = ask(port, "GET", path, headers={"Accept-Encoding": "gzip"} if number % 2 else {})
                    self.assertEqual(response.status, 200)
                    bodies.append(gzip.decompress(raw) if response.getheader("Content-Encoding") else raw)

            asked = self.asked_of_the_broker(readers)
            # One in each coding for each second, at most.
            self.assertLessEqual(asked, 2 * (2 + time.monotonic() - began))
            number = bodies[0].count(b"<entry>")
            self.assertEqual({body.count(b"<entry>") for body in bodies}, {number})
            self.publish_numbers("quiet", 1)
            until = time.monotonic() + PATIENCE_S
            while ask(front.port, "GET", path)[1].count(b"<entry>") != number + 1:
                self.assertLess(time.monotonic(), until)
                time.sleep(0.1)
            while "public" not in ask(self.broker.port, "GET", path)[0].getheader("Cache-Control"):
                self.assertLess(time.monotonic(), until + PATIENCE_S)
                time.sleep(0.1)


def token(secret, **claims):
    """A JWT by HS256."""
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    head = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    signature = base64.urlsafe_b64encode(hmac.new(secret, head, hashlib.sha256).digest()).rstrip(b"=")
    return (head + b"." + signature).decode()


class Apart(Cached):
    """Nothing of one client reaches another."""

    SECRET = b"a secret of at least thirty-two bytes"

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tailwire-test-")
        cls.arguments = ("--config", os.path.join(cls.folder, "tailwire.toml"))
        with open(cls.arguments[1], "w", encoding="ascii") as file:
            file.write(f"""
[access]
audience = "broker"
cookie = "tailwire"

[[access.issuer]]
issuer = "tests"
secrets = ["{cls.SECRET.decode()}"]
grants = "tailwire"

[[access.rule]]
who = "anonymous"
subscribe = ["public/**"]

[[access.rule]]
who = "issuer:tests"
subscribe = ["public/**"]
publish = ["**"]
""")
        super().setUpClass()
        cls.ada = cls.token_of("ada")
        cls.bob = cls.token_of("bob")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder)

    @classmethod
    def token_of(cls, name):
        grants = {"subscribe": [f"private/{name}", f"private/{name}/**"]}
        claims = {"iss": "tests", "aud": "broker", "sub": name, "exp": int(time.time()) + 3600, "tailwire": grants}
        return token(cls.SECRET, **claims)

    def test_what_is_private_reaches_only_who_may_read_it(self):
        bearer = {"Authorization": f"Bearer {self.ada}"}
        cursor = self.publish_numbers("private/ada", 1000, bearer)
        message = f"/messages/{cursor}"
        page = f"/topics/private/ada?after={cursor}&limit=100"
        feed = "/topics/private/ada?format=atom"
        headers = [{"Authorization": f"Bearer {self.bob}"}, {"Cookie": f"tailwire={self.bob}"}, {}]
        own = [bearer, {"Cookie": f"tailwire={self.ada}"}]
        archive = "/" + json.loads(ask(self.broker.port, "GET", feed.replace("atom", "jsonfeed"), headers=bearer)[1])[
            "_tailwire"]["prev_archive"]
        for front in self.fronts():
            for path in [message, page, feed, archive]:
                for credential in own:
                    response, raw = ask(front.port, "GET", path, headers=credential)
                    self.assertEqual(response.status, 200, (path, raw))
                    self.assertIn("private", response.getheader("Cache-Control"))
                    for other in headers:
                        response, raw = ask(front.port, "GET", path, headers=other)
                        self.assertIn(response.status, [401, 403], (path, other))
                        self.assertNotIn(b"so it is", raw)

    def test_what_is_public_is_the_same_for_all(self):
        bearer = {"Authorization": f"Bearer {self.ada}"}
        cursor = self.publish_numbers("public/news", 300, bearer)
        page = f"/topics/public/news?after={cursor}&limit=100"
        for front in self.fronts():
            bodies = set()
            for headers in [bearer, {}, {"Cookie": f"tailwire={self.bob}"}, {}, bearer]:
                response, raw = ask(front.port, "GET", page, headers=headers)
                self.assertEqual(response.status, 200)
                bodies.add(raw)
            self.assertEqual(len(bodies), 1)

    def test_a_pattern_shows_each_what_that_one_may_read(self):
        bearer = {"Authorization": f"Bearer {self.ada}"}
        self.publish_numbers("private/ada/one", 5, bearer)
        self.publish_numbers("public/one", 5, bearer)
        for front in self.fronts():
            for path in ["/topics/**?format=atom", "/topics/**?after=earliest&limit=3"]:
                for _ in range(2):
                    own = ask(front.port, "GET", path, headers=bearer)[1]
                    others = ask(front.port, "GET", path)[1]
                    if "atom" in path:
                        self.assertIn(b"private/ada/one", own)
                    self.assertNotIn(b"private/ada", others)


if __name__ == "__main__":
    unittest.main()
