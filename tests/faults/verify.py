"""What must hold of a broker that was started again on the data of one that died."""

import random
import unittest

from broker import OPEN_S_MAX, Broker, panics
from ledger import DONE, KEPT, Ledger
from load import cursors_of
from wire import Http, catch_up, pages, resume_everywhere

# Requests with a key that are sent again after a start.
_RETRIES = 24


def read_all(http: Http) -> list[dict]:
    """Every message, from the oldest."""
    return [line for line in catch_up(pages(http, "/topics/**")) if line["kind"] == "message"]


def verify(test: unittest.TestCase, broker: Broker, ledger: Ledger, resume: str, dice: random.Random) -> list[dict]:
    """Fails the test if any promise is broken; gives the log. `resume` is a cursor that a reader of KEPT held."""
    test.assertLess(broker.open_s, OPEN_S_MAX, "it takes too long to open")
    ready = broker.http.get("/readyz")
    test.assertEqual(ready.status, 200, ready.body)
    log = read_all(broker.http)
    _assert_none(test, ledger.faults(log))
    _check_resume(test, broker, log, resume)
    _check_single(test, broker, log, dice)
    _check_new(test, broker, ledger)
    _check_keys(test, broker, ledger, dice)
    log = read_all(broker.http)
    _assert_none(test, ledger.faults(log))
    test.assertEqual(panics(broker.stderr), "")
    return log


def _assert_none(test: unittest.TestCase, faults: list[str]) -> None:
    if faults:
        test.fail(f"{len(faults)} faults:\n" + "\n".join(faults[:12]))


def _check_resume(test: unittest.TestCase, broker: Broker, log: list[dict], after: str) -> None:
    """A reader goes on exactly where it was, on every transport, and is told of no gap where there is none."""
    if not after:
        return
    wanted = [line["cursor"] for line in log if line["cursor"] > after and line["topic"].startswith("kept/")]
    for transport, lines in resume_everywhere(broker.http, broker.port, f"/topics/{KEPT}", after).items():
        gaps = [line for line in lines if line["kind"] == "gap"]
        test.assertEqual(gaps, [], f"{transport}: a gap after {after}, where nothing was lost")
        got = [line["cursor"] for line in lines]
        test.assertEqual(got, wanted, f"{transport}: resumed after {after}")


def _check_single(test: unittest.TestCase, broker: Broker, log: list[dict], dice: random.Random) -> None:
    for message in dice.sample(log, min(5, len(log))):
        answer = broker.http.get(f"/messages/{message['cursor']}")
        test.assertEqual(answer.status, 200)
        right = (message["data"], f'"{message["data"]}"')
        test.assertIn(answer.body.decode(), right, f"/messages/{message['cursor']}")


def _check_new(test: unittest.TestCase, broker: Broker, ledger: Ledger) -> None:
    """A cursor that anybody was given before is never a new message's."""
    before = ledger.newest
    name, [body] = ledger.begin(["kept/new"], [40])
    answer = broker.http.request("POST", "/topics/kept/new", body.encode(), {"content-type": "text/plain"})
    test.assertEqual(answer.status, 201, answer.body)
    [cursor] = cursors_of(answer)
    test.assertGreater(cursor, before, "a new cursor is not beyond all that were given out")
    ledger.acknowledge(name, [cursor])


def _check_keys(test: unittest.TestCase, broker: Broker, ledger: Ledger, dice: random.Random) -> None:
    """A retry of what was acknowledged gets the first receipt; of anything else it is stored once."""
    unknown = [keyed for keyed in ledger.keyed if ledger.groups[keyed.group].outcome != DONE]
    known = [keyed for keyed in ledger.keyed if ledger.groups[keyed.group].outcome == DONE]
    for keyed in unknown[-_RETRIES:] + dice.sample(known, min(_RETRIES, len(known))):
        group = ledger.groups[keyed.group]
        was_stored = bool(group.cursors)
        answer = broker.http.request("POST", keyed.path, keyed.body, keyed.headers)
        test.assertEqual(answer.status, 201, f"{keyed.group} again: {answer.body!r}")
        if was_stored:
            replayed = answer.headers["idempotency-replayed"]
            test.assertEqual(replayed, "true", f"{keyed.group} is in the log, and its key is forgotten")
            places = [group.cursors[index] for index in range(len(group.topics))]
            test.assertEqual(cursors_of(answer), places, f"the receipt of {keyed.group} changed")
        ledger.acknowledge(keyed.group, cursors_of(answer))


def publish(test: unittest.TestCase, http: Http, ledger: Ledger, topic: str, size: int = 60) -> str:
    """Publishes one message that must be acknowledged; gives its cursor."""
    name, [body] = ledger.begin([topic], [size])
    answer = http.request("POST", f"/topics/{topic}", body.encode(), {"content-type": "text/plain"})
    test.assertEqual(answer.status, 201, answer.body)
    [cursor] = cursors_of(answer)
    ledger.acknowledge(name, [cursor])
    return cursor
