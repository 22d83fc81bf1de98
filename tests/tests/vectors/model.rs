//! Checks of the model's vectors.

use serde_json::{Value, json};
use tailwire_model::{
    Admission, Condition, Cursor, Epoch, EpochStart, Epochs, FilterError, Fingerprint, GapReason,
    IdempotencyKey, Opening, Position, Term, Timestamp, Topic, TopicError, Trim, TrimReason,
    admission::{KeyRecord, admit},
    gap::{Extent, resume},
    retry::{Pace, Poll, retry_after_ms, retry_drained_ms},
};

use crate::{number, text};

/// The cursor that a case must have.
pub(crate) fn cursor_of(value: &Value) -> Cursor {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("a cursor: {value}"))
}

fn optional_cursor(value: &Value) -> Option<Cursor> {
    (!value.is_null()).then(|| cursor_of(value))
}

fn topic_error(error: TopicError) -> &'static str {
    match error {
        TopicError::Empty => "empty",
        TopicError::TooLong => "too_long",
        TopicError::EmptySegment => "empty_segment",
        TopicError::DotSegment => "dot_segment",
        TopicError::Control => "control",
        TopicError::Wildcard => "wildcard",
        TopicError::NotNormalized => "not_normalized",
    }
}

pub(crate) fn topic(case: &Value) -> Value {
    match Topic::parse(text(case, "name")) {
        Ok(topic) if topic.is_reserved() => json!("reserved"),
        Ok(_) => json!("ok"),
        Err(error) => json!(topic_error(error)),
    }
}

pub(crate) fn pattern(case: &Value) -> Value {
    let term = match Term::parse(text(case, "term")) {
        Ok(term) => term,
        Err(FilterError::Topic(error)) => return json!(topic_error(error)),
        Err(FilterError::Wildcard) => return json!("wildcard"),
        Err(FilterError::TooMany) => return json!("too_many"),
    };
    let is_match = |name: &&Value| term.matches(&Topic::parse(name.as_str().unwrap()).unwrap());
    let matches: Vec<&Value> = case["topics"].as_array().unwrap().iter().filter(is_match).collect();
    match &term {
        Term::Topic(_) => json!({"kind": "topic", "matches": matches}),
        Term::Pattern(pattern) => {
            json!({"kind": "pattern", "prefix": pattern.prefix(), "matches": matches})
        }
    }
}

pub(crate) fn cursor(case: &Value) -> Value {
    if let Some(list) = case.get("sort") {
        let mut cursors: Vec<Cursor> = list.as_array().unwrap().iter().map(cursor_of).collect();
        cursors.sort_unstable();
        let sorted: Vec<String> = cursors.iter().map(Cursor::to_string).collect();
        assert!(sorted.is_sorted(), "the order of strings is that of cursors");
        return json!(sorted);
    }
    match text(case, "text").parse::<Cursor>() {
        Ok(cursor) => {
            assert_eq!(cursor.to_string(), text(case, "text"), "there and back");
            json!({"epoch": cursor.epoch.number(), "position": cursor.position.to_string()})
        }
        Err(_) => json!("error"),
    }
}

pub(crate) fn epoch(case: &Value) -> Value {
    let last = case["last"].as_u64().map(|last| Epoch::new(last).unwrap());
    let epoch = Epoch::opening(number(case, "now_ms"), last, number(case, "draw"));
    json!(epoch.map(Epoch::number))
}

fn epochs(case: &Value) -> Epochs {
    let starts = case["epochs"].as_array().unwrap().iter().map(|start| EpochStart {
        epoch: Epoch::new(number(start, "epoch")).unwrap(),
        first: Position(number(start, "first")),
        opening: match text(start, "opening") {
            "created" => Opening::Created,
            "clean" => Opening::Clean,
            "unclean" => Opening::Unclean,
            other => panic!("an opening: {other}"),
        },
    });
    Epochs::new(starts.collect()).unwrap()
}

pub(crate) fn gap(case: &Value) -> Value {
    let trimmed = case.get("trimmed").map(|trim| Trim {
        upto: Position(number(trim, "upto")),
        reason: match text(trim, "reason") {
            "retention" => TrimReason::Retention,
            "deleted" => TrimReason::Deleted,
            "lost" => TrimReason::Lost,
            other => panic!("a reason: {other}"),
        },
    });
    let extent = Extent {
        committed: Position(number(case, "committed")),
        head: case.get("head").and_then(Value::as_u64).map(Position),
        trimmed,
    };
    let known = optional_cursor(&case["known"]);
    let resume = resume(&epochs(case), &extent, cursor_of(&case["cursor"]), known);
    let gap = resume.gap.map(
        |gap| json!({"from": gap.from.to_string(), "to": gap.to.to_string(), "reason": gap.reason.as_str()}),
    );
    json!({"after": resume.after.0, "gap": gap})
}

/// The reason of this word.
pub(crate) fn gap_reason(word: &str) -> GapReason {
    use GapReason::{Deleted, Retention, Rewound, Unclean};
    let reasons = [Retention, Deleted, Unclean, Rewound, GapReason::Epoch];
    reasons.into_iter().find(|reason| reason.as_str() == word).unwrap()
}

pub(crate) fn admission(case: &Value) -> Value {
    let fingerprint = |value: &Value| Fingerprint([u8::try_from(number(value, "request")).unwrap(); 16]);
    let record = case.get("record").map(|record| KeyRecord {
        request: fingerprint(record),
        first: cursor_of(&record["first"]),
        count: u32::try_from(number(record, "count")).unwrap(),
        time: Timestamp(0),
    });
    let key = case
        .get("key")
        .map(|key| IdempotencyKey { scoped: "caller key".to_owned(), request: fingerprint(key) });
    let condition = match &case["condition"] {
        Value::Null => Condition::None,
        Value::String(word) if word == "never_written" => Condition::NeverWritten,
        object => Condition::NothingAfter(cursor_of(&object["nothing_after"])),
    };
    let tail = Position(number(case, "tail"));
    match admit(record.as_ref(), key.as_ref(), condition, tail, &epochs(case)) {
        Admission::Append => json!("append"),
        Admission::KeyReused => json!("key_reused"),
        Admission::Replay(record) => {
            json!({"replay": {"first": record.first.to_string(), "count": record.count}})
        }
        Admission::ConditionFailed(cursor) => json!({"condition_failed": cursor.to_string()}),
    }
}

pub(crate) fn retry(case: &Value) -> Value {
    let draw = case["draw"].as_f64().unwrap();
    if let Some(clients) = case["drained"].as_u64() {
        return json!(retry_drained_ms(clients, draw));
    }
    let load = case["load"].as_f64().unwrap();
    let pace = Pace { interval_ms: case["interval_ms"].as_u64(), age_ms: case["age_ms"].as_u64() };
    let wait_ms = case["wait_ms"].as_u64().unwrap_or(0);
    json!(retry_after_ms(&Poll { pace, wait_ms, has_found: case["found"] == true, load }, draw))
}
