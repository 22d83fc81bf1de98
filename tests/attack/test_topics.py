"""Topics: their number has a bound, and what each takes is little, also with the longest names and after a restart."""

import unittest

from ground import MIB, Attacked

# What a topic takes beside its name, in bytes of the whole process: see docs/STORAGE.md.
TOPIC_BYTES = 260
# The process holds its memory in pages of several kinds: what is measured is a slope, between two starts.
NOISE_BYTES = 400
NAME_BYTES = 255
MAX = 100_000
BATCH = 10_000


def batch(begin, count):
    """One message to each of so many topics, with names of the greatest length."""
    return b"\n".join(b'{"topic":"%s%0100d","data":1}' % (b"n" * (NAME_BYTES - 100), n) for n in range(begin, begin + count))


class Topics(unittest.TestCase):
    def setUp(self):
        self.broker = Attacked("--max-topics", str(MAX))
        self.addCleanup(self.broker.stop)

    def publish(self, lines):
        return self.broker.request("POST", "/stream", lines, {"Content-Type": "application/x-ndjson"})

    def restarted(self):
        """Its memory after a start."""
        self.broker.drain()
        self.broker.start_again()
        return self.broker.rested_bytes()

    def test_their_number_and_their_memory(self):
        self.assertEqual(self.publish(batch(0, 10))[0], 201)
        first = self.broker.resident_bytes()
        for begin in range(10, MAX, BATCH):
            self.assertEqual(self.publish(batch(begin, min(BATCH, MAX - begin)))[0], 201)
            if begin == MAX // 2 + 10:
                # After a start, since what commits leave to the allocator differs at each run.
                half, known = self.restarted(), begin + BATCH
        status, _, problem = self.publish(batch(MAX - 5, 10))
        self.assertEqual((status, problem["code"]), (429, "topics-too-many"))
        self.assertEqual(self.broker.request("POST", "/topics/another", b"1")[0], 429)
        # Those that there are take messages as before.
        self.assertEqual(self.publish(batch(MAX - 10, 10))[0], 201)
        listed = self.broker.request("GET", "/topics?prefix=another")[2]
        self.assertEqual(listed["topics"], [])
        full = self.broker.rested_bytes()
        again = self.restarted()
        each = (again - half) / (MAX - known)
        print(
            f"\n{self.id()}: {each:.0f} bytes a topic with a name of {NAME_BYTES}; with {MAX} of them {(full - first) // MIB}"
            f" MiB more than with ten, {(again - first) // MIB} after a restart"
        )
        self.assertLess(each, TOPIC_BYTES + NAME_BYTES + NOISE_BYTES)
        self.assertLess(abs(full - again), 32 * MIB)
        self.assertEqual(self.broker.request("POST", "/topics/another", b"1")[0], 429)


if __name__ == "__main__":
    unittest.main()
