"""Thousands of long-polls at one cursor: they share a reader and an answer, and nobody is forgotten. `tests/bench/feeds.py` has
ten thousand of them, and the times."""

import json
import time
import unittest

from client import Case
from longpolls import Crowd, statuses

COUNT = 2_000
WAIT_S = 3


class LongPolls(Case):
    def metric(self, name):
        lines = self.broker.metrics().splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))

    def until_waiting(self, count):
        while self.metric('tailwire_connections{transport="long-poll"}') != count:
            time.sleep(0.02)

    def test_all_at_one_cursor_share_an_answer(self):
        cursor = self.publish('"first"')
        path = f"/topics/{self.topic}?after={cursor}"
        crowd = Crowd(self.broker.port, COUNT)
        self.addCleanup(crowd.close)
        with self.subTest("in vain"):
            crowd.ask(f"{path}&wait={WAIT_S}")
            answers = crowd.take()
            self.assertEqual(statuses(answers), {202: COUNT})
            self.assertGreaterEqual(min(answer.after_s for answer in answers), WAIT_S)
            self.assertEqual({answer.headers["tailwire-cursor"] for answer in answers}, {cursor})
            self.assertEqual({answer.headers["preference-applied"] for answer in answers}, {f"wait={WAIT_S}"})
        with self.subTest("and found"):
            readers, read = self.metric("tailwire_readers"), self.metric("tailwire_log_pages_total")
            crowd.ask(f"{path}&wait=50")
            self.until_waiting(COUNT)
            self.assertEqual(self.metric("tailwire_readers"), readers + 1)
            # What others publish meanwhile is none of their business.
            for number in range(20):
                response, _ = self.ask("POST", "/topics/other", f"{number}", {"Content-Type": "application/json"})
                self.assertEqual(response.status, 201)
            found = self.publish('"second"')
            answers = crowd.take()
            self.assertEqual(statuses(answers), {200: COUNT})
            bodies = {answer.body for answer in answers}
            self.assertEqual(len(bodies), 1)
            page = json.loads(bodies.pop())
            self.assertEqual([message["data"] for message in page["messages"]], ["second"])
            self.assertEqual(page["cursor"], found)
            self.assertEqual(self.metric("tailwire_readers"), readers)
            self.assertLessEqual(self.metric("tailwire_log_pages_total"), read + 1)

    def test_some_who_leave_take_nobody_with_them(self):
        cursor = self.publish('"first"')
        path = f"/topics/{self.topic}?after={cursor}&wait=50"
        stay, leave = Crowd(self.broker.port, 100), Crowd(self.broker.port, 100)
        self.addCleanup(stay.close)
        for crowd in [leave, stay]:
            crowd.ask(path)
        self.until_waiting(200)
        leave.reset()
        self.until_waiting(100)
        self.publish('"second"')
        self.assertEqual(statuses(stay.take()), {200: 100})


if __name__ == "__main__":
    unittest.main()
