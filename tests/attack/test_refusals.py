"""Refusals reach clients that send their body first, whatever they are written with."""

import http.client
import subprocess
import unittest
import urllib.error
import urllib.request

from ground import MIB, PATIENCE_S, Attacked, half_open

# A refusal, and the request that it is for.
REFUSED = {
    400: ("POST", "/topics/a//b", {}),
    403: ("POST", "/topics/a", {"Origin": "https://evil.example"}),
    404: ("POST", "/nothing", {}),
    405: ("POST", "/healthz", {}),
    413: ("POST", "/topics/a", {}),
    415: ("POST", "/topics/a", {"Content-Encoding": "nonsense"}),
}


class Refusals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Attacked()
        cls.url = f"http://127.0.0.1:{cls.broker.port}"

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def each(self):
        for status, (method, path, headers) in REFUSED.items():
            for size in (MIB + 1, 8 * MIB - 1):
                with self.subTest(status=status, size=size):
                    yield status, method, path, headers, b"x" * size

    def test_http_client(self):
        for status, method, path, headers, body in self.each():
            connection = http.client.HTTPConnection("127.0.0.1", self.broker.port, timeout=PATIENCE_S)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            self.assertEqual(response.status, status)
            self.assertIn(b'"code"', response.read())
            connection.close()

    def test_urllib(self):
        for status, method, path, headers, body in self.each():
            request = urllib.request.Request(self.url + path, body, headers, method=method)
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=PATIENCE_S)
            self.assertEqual(refused.exception.code, status)
            refused.exception.close()

    def test_curl(self):
        for status, method, path, headers, body in self.each():
            command = ["curl", "-sS", "-X", method, "--data-binary", "@-", "-H", "Expect:", "-o", "/dev/null"]
            command += ["-w", "%{http_code}", *(f"-H{name}: {value}" for name, value in headers.items()), self.url + path]
            ran = subprocess.run(command, input=body, capture_output=True, timeout=PATIENCE_S, check=False)
            self.assertEqual((ran.returncode, ran.stdout), (0, str(status).encode()), ran.stderr)

    def test_node(self):
        script = """
            const [url, method, size, headers] = process.argv.slice(1);
            fetch(url, { method, headers: JSON.parse(headers), body: 'x'.repeat(Number(size)) })
                .then((answer) => answer.text().then(() => console.log(answer.status)));
        """
        for status, method, path, headers, body in self.each():
            import json

            command = ["node", "-e", script, self.url + path, method, str(len(body)), json.dumps(headers)]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            self.assertEqual(ran.stdout.strip(), str(status), ran.stderr)

    def test_a_get_whose_body_comes_later(self):
        own = half_open(self.broker.port, b"GET /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\n")
        own.sendall(b"hello")
        answer = own.recv(4096)
        self.assertRegex(answer, rb"^HTTP/1.1 20[02] ")
        # The connection goes on behind the body.
        own.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        text = answer
        while b"/1.1 200 OK" not in text.split(b"\r\n\r\n", 1)[1]:
            more = own.recv(4096)
            self.assertTrue(more, text)
            text += more
        own.close()


if __name__ == "__main__":
    unittest.main()
