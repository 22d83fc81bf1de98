"""Refusals are read by clients of Python's standard library, which send a body whole before they look for an answer."""

import http.client
import json
import unittest
import urllib.error
import urllib.request

from broker import PATIENCE_S, Broker

SIZE = 8 << 20
EVIL = {"Origin": "https://evil.example"}
REFUSED = [
    ("POST", "/topics/refused", {}, 413),
    ("POST", "/topics/refused", EVIL, 403),
    ("POST", "/topics/*", {}, 400),
    ("GET", "/nowhere", {}, 404),
    ("PUT", "/healthz", {}, 405),
    ("GET", "/topics/a%2Fb", {}, 400),
    ("POST", "/topics/refused", {"Host": "evil.example"}, 421),
]


class Refusals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()
        cls.addClassCleanup(cls.broker.stop)

    def test_by_http_client(self):
        for method, path, headers, status in REFUSED:
            for chunked in (False, True):
                connection = http.client.HTTPConnection("127.0.0.1", self.broker.port, timeout=PATIENCE_S)
                body = (bytes(1 << 16) for _ in range(SIZE >> 16)) if chunked else bytes(SIZE)
                connection.request(method, path, body, headers, encode_chunked=chunked)
                answer = connection.getresponse()
                self.assertEqual(answer.status, status, f"{method} {path}")
                self.assertIn("code", json.loads(answer.read()))
                connection.close()

    def test_by_urllib(self):
        for method, path, headers, status in REFUSED:
            url = f"http://127.0.0.1:{self.broker.port}{path}"
            request = urllib.request.Request(url, bytes(SIZE), headers, method=method)
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=PATIENCE_S)
            self.assertEqual(refused.exception.code, status, f"{method} {path}")
            self.assertIn("code", json.loads(refused.exception.read()))


if __name__ == "__main__":
    unittest.main()
