"""Content codings: pages, feeds, archives and messages for those who ask, and the same content whatever the coding."""

import gzip
import json
import subprocess
import unittest

from client import Case

CODINGS = ["gzip", "br", "zstd"]


def decoded(raw, coding):
    if coding == "gzip":
        return gzip.decompress(raw)
    program = {"br": ["brotli", "-dc"], "zstd": ["zstd", "-dcq"]}[coding]
    return subprocess.run(program, input=raw, capture_output=True, check=True).stdout


class Codings(Case):
    def ask_coded(self, path, coding):
        return self.ask("GET", path, headers={"Accept-Encoding": coding} if coding else None)

    def check(self, path):
        """The same in every coding."""
        plain_response, plain = self.ask_coded(path, None)
        self.assertEqual(plain_response.status, 200)
        self.assertIsNone(plain_response.getheader("Content-Encoding"))
        for coding in CODINGS:
            response, raw = self.ask_coded(path, coding)
            self.assertEqual((response.status, response.getheader("Content-Encoding")), (200, coding))
            self.assertEqual(response.getheader("Content-Length"), str(len(raw)))
            self.assertLess(len(raw), len(plain) / 2)
            self.assertEqual(decoded(raw, coding), plain)
            self.assertIn("accept-encoding", ", ".join(response.headers.get_all("Vary")))
            self.assertTrue(response.getheader("ETag").startswith("W/"))
            tag = {"If-None-Match": response.getheader("ETag"), "Accept-Encoding": coding}
            known, raw = self.ask("GET", path, headers=tag)
            self.assertEqual((known.status, raw, known.getheader("Content-Encoding")), (304, b"", None))
            # What a cache is to update its copy by (RFC 9110 §15.4.5).
            for name in ["Vary", "ETag", "Cache-Control"]:
                self.assertEqual(known.getheader(name), response.getheader(name), name)
        self.assertIn("accept-encoding", ", ".join(plain_response.headers.get_all("Vary")))

    def test_pages_feeds_archives_and_messages(self):
        self.publish_numbers(range(500), padding="so it is " * 20)
        cursor = self.publish(json.dumps({"text": "again " * 1000}))
        topic = f"/topics/{self.topic}"
        own = json.loads(self.ask("GET", f"{topic}?format=jsonfeed")[1])["_tailwire"]
        for path in [
            f"{topic}?after=earliest&limit=200",
            f"{topic}?format=atom",
            f"{topic}?format=jsonfeed",
            f"/topics/feeds/**?format=atom",
            f"/{own['prev_archive']}",
            f"/messages/{cursor}",
        ]:
            with self.subTest(path):
                self.check(path)

    def test_the_better_quality_wins(self):
        self.publish_numbers(range(100))
        path = f"/topics/{self.topic}"
        for accept, expect in [
            ("gzip;q=0.5, br;q=0.8", "br"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("identity;q=1, *;q=0.5", None),
            ("gzip;q=0", None),
        ]:
            response, _ = self.ask_coded(path, accept)
            self.assertEqual(response.getheader("Content-Encoding"), expect, accept)

    def test_what_is_small_or_no_text_is_left_as_it_is(self):
        cursor = self.publish(b"\x00" * 50_000, "application/octet-stream")
        small = self.publish('{"small":true}')
        for path in [f"/messages/{cursor}", f"/messages/{small}", f"/topics/{self.topic}?after={cursor}"]:
            response, _ = self.ask_coded(path, "gzip")
            self.assertEqual((response.status, response.getheader("Content-Encoding")), (200, None), path)
        response, _ = self.ask_coded(f"/topics/{self.topic}?after={small}", "gzip")
        self.assertEqual((response.status, response.getheader("Content-Encoding")), (202, None))

    def test_polls_that_wait_are_coded_and_streams_are_not(self):
        cursor = self.publish('"first"')
        self.publish(json.dumps("so it is " * 500))
        headers = {"Accept-Encoding": "gzip", "Prefer": "wait=5"}
        response, raw = self.ask("GET", f"/topics/{self.topic}?after={cursor}", headers=headers)
        self.assertEqual(response.getheader("Content-Encoding"), "gzip")
        self.assertEqual(len(json.loads(gzip.decompress(raw))["messages"]), 1)
        streamed = subprocess.run(
            ["curl", "-sN", "-i", "--max-time", "1", "-H", "Accept-Encoding: gzip", "-H", "Accept: text/event-stream",
             f"http://127.0.0.1:{self.broker.port}/topics/{self.topic}?after=earliest"],
            capture_output=True, text=True,
        ).stdout
        self.assertNotIn("content-encoding", streamed.lower())
        self.assertIn("so it is", streamed)

    def test_a_message_has_a_strong_tag_only_as_itself(self):
        cursor = self.publish(json.dumps("so it is " * 500))
        response, _ = self.ask_coded(f"/messages/{cursor}", None)
        self.assertEqual(response.getheader("ETag"), f'"{cursor}"')
        response, raw = self.ask("GET", f"/messages/{cursor}", headers={"If-None-Match": f'"{cursor}"'})
        self.assertEqual((response.status, raw), (304, b""))


if __name__ == "__main__":
    unittest.main()
