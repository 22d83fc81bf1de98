/** Each message once across gaps that lead back: restores, restores of restores, and logs of others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { feedOf } from "../.build/subscription.js";

/** A subscription that one connection delivers to. Cursors are any texts that sort. */
function reading(after) {
  const feed = feedOf(["a"], { after }, () => {});
  const got = [];
  feed.on("message", ({ cursor }) => got.push(cursor));
  feed.on("gap", ({ reason }) => got.push(reason));
  const say = (kind, more) => feed.line(feed.generation, { kind, ...more });
  return {
    feed,
    got,
    messages: (...cursors) => cursors.forEach((cursor) => say("message", { cursor, topic: "a", data: cursor })),
    gap: (reason, from, to = from) => say("gap", { reason, from, to }),
    caughtUp: (cursor) => say("caught_up", { cursor }),
  };
}

test("a log that is read again from its beginning: messages up to the position that was reached aren't delivered again", () => {
  const { feed, got, messages, gap, caughtUp } = reading("1-0");
  messages("1-1", "1-2", "2-3");
  caughtUp("2-3");
  gap("epoch", "1-0");
  messages("1-1", "1-2", "2-3", "3-3");
  caughtUp("3-3");
  messages("3-4");
  assert.deepEqual(got, ["1-1", "1-2", "2-3", "epoch", "3-3", "3-4"]);
  assert.equal(feed.cursor, "3-4");
});

test("an application that starts at a cursor of a state that was lost has its mark there", () => {
  const { got, messages, gap } = reading("2-9");
  gap("epoch", "1-2");
  messages("1-3", "2-9", "3-3");
  assert.deepEqual(got, ["epoch", "3-3"]);
});

test("messages after lost ones are new, also where the clock was ahead when those were written", () => {
  for (const reason of ["rewound", "unclean"]) {
    const { feed, got, messages, gap, caughtUp } = reading("1-0");
    messages("1-1", "9-2");
    gap(reason, "1-1");
    messages("2-2");
    caughtUp("2-2");
    assert.deepEqual(got, ["1-1", "9-2", reason, "2-2"]);
    assert.equal(feed.cursor, "2-2");
  }
});

test("the position moves past messages that are dropped", () => {
  const { feed, messages, gap } = reading("2-9");
  gap("epoch", "1-0");
  messages("1-1", "1-2");
  assert.equal(feed.position, "1-2");
  assert.equal(feed.ask().after, "1-2");
});

test("a restore of the restore, while the log is still read: the highest position counts", () => {
  const { got, messages, gap, caughtUp } = reading("1-0");
  messages("1-1", "2-2");
  gap("epoch", "1-0");
  messages("1-1");
  gap("rewound", "1-0");
  messages("1-1", "2-2", "4-3");
  caughtUp("4-3");
  assert.deepEqual(got, ["1-1", "2-2", "epoch", "rewound", "4-3"]);
});

test("in a log that lies before the mark as a whole, messages after its tail are new", () => {
  const { got, messages, gap, caughtUp } = reading("5-9");
  gap("epoch", "1-4");
  caughtUp("1-4");
  messages("1-5", "1-6");
  assert.deepEqual(got, ["epoch", "1-5", "1-6"]);
});
