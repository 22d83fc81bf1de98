"""Refusals are read by clients that send a body whole before they look for an answer, whatever they are written with."""

import http.client
import json
import socket
import subprocess
import unittest
import urllib.error
import urllib.request

from broker import PATIENCE_S, Broker

MIB = 1 << 20
# Just beyond a message's bound, and beyond a batch's.
SIZES = (MIB + 1, 8 * MIB)
EVIL = {"Origin": "https://evil.example"}
REFUSED = [
    ("POST", "/topics/refused", {}, 413),
    ("POST", "/topics/refused", EVIL, 403),
    ("POST", "/topics/refused", {"Content-Encoding": "nonsense"}, 415),
    ("POST", "/topics/refused", {"Host": "evil.example"}, 421),
    ("POST", "/topics/*", {}, 400),
    ("GET", "/nowhere", {}, 404),
    ("PUT", "/healthz", {}, 405),
    ("GET", "/topics/a%2Fb", {}, 400),
]
FETCH = """
    const [url, method, size, headers] = process.argv.slice(1);
    fetch(url, { method, headers: JSON.parse(headers), body: 'x'.repeat(Number(size)) })
        .then((answer) => answer.text().then(() => console.log(answer.status)));
"""


class Refusals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()
        cls.addClassCleanup(cls.broker.stop)
        cls.url = f"http://127.0.0.1:{cls.broker.port}"

    def each(self):
        for method, path, headers, status in REFUSED:
            for size in SIZES:
                with self.subTest(method=method, path=path, status=status, size=size):
                    yield method, path, headers, status, size

    def test_by_http_client(self):
        for method, path, headers, status, size in self.each():
            for chunked in (False, True):
                connection = http.client.HTTPConnection("127.0.0.1", self.broker.port, timeout=PATIENCE_S)
                body = (bytes(1 << 16) for _ in range(-(-size >> 16))) if chunked else bytes(size)
                connection.request(method, path, body, headers, encode_chunked=chunked)
                answer = connection.getresponse()
                self.assertEqual(answer.status, status)
                self.assertIn("code", json.loads(answer.read()))
                connection.close()

    def test_by_urllib(self):
        for method, path, headers, status, size in self.each():
            request = urllib.request.Request(self.url + path, bytes(size), headers, method=method)
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=PATIENCE_S)
            self.assertEqual(refused.exception.code, status)
            self.assertIn("code", json.loads(refused.exception.read()))

    def test_by_curl(self):
        for method, path, headers, status, size in self.each():
            command = ["curl", "-sS", "-X", method, "--data-binary", "@-", "-H", "Expect:", "-o", "/dev/null"]
            command += ["-w", "%{http_code}", *(f"-H{name}: {value}" for name, value in headers.items())]
            ran = subprocess.run(
                [*command, self.url + path], input=bytes(size), capture_output=True, timeout=PATIENCE_S, check=False
            )
            self.assertEqual((ran.returncode, ran.stdout), (0, str(status).encode()), ran.stderr)

    def test_by_node(self):
        for method, path, headers, status, size in self.each():
            # `fetch` sends no body with a GET, and no Host but the URL's.
            if method == "GET" or "Host" in headers:
                continue
            command = ["node", "-e", FETCH, self.url + path, method, str(size), json.dumps(headers)]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            self.assertEqual(ran.stdout.strip(), str(status), ran.stderr)

    def test_a_get_whose_body_comes_later_is_answered_and_its_connection_goes_on(self):
        head = b"GET /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.broker.port), timeout=PATIENCE_S) as own:
            own.sendall(head)
            own.sendall(b"hello")
            text = own.recv(4096)
            self.assertRegex(text, rb"^HTTP/1.1 20[02] ")
            own.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while b"/1.1 200 OK" not in text.split(b"\r\n\r\n", 1)[-1]:
                more = own.recv(4096)
                self.assertTrue(more, text)
                text += more


if __name__ == "__main__":
    unittest.main()
