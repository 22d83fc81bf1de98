"""A feed reader from Debian follows a topic: newsboat, headless, as people run it from cron."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
import unittest

from client import PATIENCE_S, Case


class Newsboat(Case):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="tailwire-newsboat-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.cache = os.path.join(self.folder, "cache.db")
        for name, content in [
            ("urls", f"http://127.0.0.1:{self.broker.port}/topics/{self.topic}?format=atom\n"),
            ("config", "max-items 0\n"),
        ]:
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
                file.write(content)

    def reload(self):
        """What the reader has after a look at the feed, the oldest first."""
        command = ["newsboat", "-x", "reload", "-q", "-c", self.cache]
        command += ["-u", os.path.join(self.folder, "urls"), "-C", os.path.join(self.folder, "config")]
        environment = {**os.environ, "HOME": self.folder, "LANG": "C.UTF-8", "TERM": "dumb"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        with sqlite3.connect(self.cache) as cache:
            items = cache.execute("SELECT title, url FROM rss_item ORDER BY id").fetchall()
            title = cache.execute("SELECT title FROM rss_feed").fetchone()[0]
        cache.close()
        return title, items

    def test_it_follows_a_topic(self):
        self.set_options(title="Grüße & more")
        self.publish('{"title":"Ünicode <b>","text":"]]>","url":"https://example.com/1"}')
        self.publish("first line\nsecond line", "text/plain")
        title, items = self.reload()
        self.assertEqual(title, "Grüße & more")
        self.assertEqual({title for title, _ in items}, {"Ünicode <b>", "first line"})
        self.assertIn("https://example.com/1", {url for _, url in items})
        met = 2
        for number in range(3):
            # Nothing new, and then something: it asks by its tag, and is given what is new.
            self.assertEqual(len(self.reload()[1]), met)
            self.publish_numbers([f"n{number}", f"m{number}"])
            met += 2
            _, items = self.reload()
            self.assertEqual(len(items), met)
            self.assertIn(f"m{number}", {title for title, _ in items})
        self.assertRegex(self.broker.metrics(), r'tailwire_responses_total\{status="(304|226)"\} [1-9]')


if __name__ == "__main__":
    unittest.main()
