//! Frames and writes round-trip, and damaged ones are refused without a panic.

#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use proptest::{collection::vec, option, prelude::*};
use tailwire_core::log::Group;
use tailwire_model::{
    Bound, Condition, Cursor, Draft, Durability, Epoch, Fingerprint, IdempotencyKey, Keep, MediaType,
    Opening, Options, Position, Term, Topic, TrimReason, message::Extras,
};

use super::*;

fn topic() -> impl Strategy<Value = Topic> {
    prop_oneof!["[a-z]{1,8}(/[a-zé]{1,4}){0,3}", Just("$sys/x".to_owned())]
        .prop_map(|name| Topic::parse(&name).unwrap())
}

fn position() -> impl Strategy<Value = Position> {
    (0..=Position::MAX.0).prop_map(Position)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (0..=Epoch::MAX.number()).prop_map(|number| Epoch::new(number).unwrap())
}

fn extras() -> impl Strategy<Value = Extras> {
    let text = || option::of("[ -~é]{0,20}");
    let headers = vec(("[a-z-]{1,10}", "[ -~]{0,20}"), 0..4);
    (text(), text(), headers, option::of(any::<u64>()), any::<bool>()).prop_map(
        |(key, event, headers, max_age_ms, is_deletion)| Extras {
            key,
            event,
            headers,
            max_age_ms,
            is_deletion,
        },
    )
}

fn draft() -> impl Strategy<Value = Draft> {
    let media_type = prop_oneof![
        Just(MediaType::NONE),
        Just(MediaType::JSON),
        "[a-z]{1,8}/[a-z+.-]{1,20}".prop_map(|text| MediaType::new(&text)),
    ];
    (topic(), media_type, option::of(extras()), vec(any::<u8>(), 0..200)).prop_map(
        |(topic, media_type, extras, body)| Draft {
            topic,
            media_type,
            extras: extras.map(Box::new),
            body: body.into(),
        },
    )
}

fn group() -> impl Strategy<Value = Group> {
    let key = ("[ -~]{1,40}", any::<[u8; 16]>())
        .prop_map(|(scoped, request)| IdempotencyKey { scoped, request: Fingerprint(request) });
    let condition = prop_oneof![
        Just(Condition::None),
        Just(Condition::NeverWritten),
        (epoch(), position())
            .prop_map(|(epoch, position)| Condition::NothingAfter(Cursor { epoch, position })),
    ];
    (vec(draft(), 1..6), option::of(key), condition).prop_map(|(drafts, key, condition)| Group {
        drafts,
        key,
        condition,
    })
}

fn options() -> impl Strategy<Value = Options> {
    let bound = || option::of(prop_oneof![any::<u64>().prop_map(Bound), Just(Bound::NONE)]);
    let durability =
        prop_oneof![Just(Durability::Sync), Just(Durability::Relaxed), Just(Durability::Memory),];
    let keep = prop_oneof![Just(Keep::All), Just(Keep::Compact), Just(Keep::Last)];
    let label = || option::of("[a-z ü]{1,20}").prop_map(|label| label.map(Into::into));
    (option::of(durability), bound(), bound(), bound(), option::of(keep), label(), label()).prop_map(
        |(durability, max_age_ms, max_messages, max_bytes, keep, title, description)| Options {
            durability,
            max_age_ms,
            max_messages,
            max_bytes,
            keep,
            title,
            description,
        },
    )
}

fn write() -> impl Strategy<Value = Write> {
    let term = prop_oneof![
        topic().prop_map(Term::Topic),
        Just(Term::parse("a/**").unwrap()),
        Just(Term::parse("*").unwrap()),
    ];
    let opening = prop_oneof![Just(Opening::Created), Just(Opening::Clean), Just(Opening::Unclean)];
    let reason = prop_oneof![Just(TrimReason::Retention), Just(TrimReason::Deleted), Just(TrimReason::Lost)];
    prop_oneof![
        4 => group().prop_map(Write::Publish),
        1 => topic().prop_map(Write::Delete),
        1 => (topic(), position()).prop_map(|(topic, upto)| Write::Retain(topic, upto)),
        1 => (topic(), position()).prop_map(|(topic, upto)| Write::Forget(topic, upto)),
        1 => (topic(), position(), position())
            .prop_map(|(topic, after, upto)| Write::Compact(topic, after, upto)),
        1 => (term, options()).prop_map(|(term, options)| Write::Options(term, options)),
        1 => (epoch(), opening).prop_map(|(epoch, opening)| Write::Opening(epoch, opening)),
        1 => (epoch(), position(), reason)
            .prop_map(|(epoch, position, reason)| Write::Remove(Cursor { epoch, position }, reason)),
    ]
}

fn frame(part: Bytes) -> Frame {
    Frame {
        log: LogId(0x1234_5678_9abc_def0_1122_3344_5566_7788),
        incarnation: 0xfeed_f00d,
        number: 7,
        has_more: false,
        applied: Applied { sequence: 41, digest: 99 },
        topics_max: 250_000,
        part,
    }
}

fn text(writes: &[Write]) -> String {
    format!("{writes:?}")
}

proptest! {
    #[test]
    fn writes_round_trip(writes in vec(write(), 0..8)) {
        let bytes = encode_writes(writes.iter(), 0);
        let frame = frame(bytes);
        let read = Frame::decode(&frame.encode()).unwrap();
        prop_assert_eq!(&read, &frame);
        prop_assert_eq!(text(&decode_writes(read.part).unwrap()), text(&writes));
    }

    #[test]
    fn a_frame_that_was_changed_is_refused(writes in vec(write(), 0..3), at in any::<usize>(), bit in 0u8..8) {
        let whole = frame(encode_writes(writes.iter(), 0)).encode();
        let mut changed = whole.to_vec();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        let expect = if at == 0 { FrameError::Version(changed[0]) } else { FrameError::Foreign };
        prop_assert_eq!(Frame::decode(&changed.into()), Err(expect));
        prop_assert_eq!(Frame::decode(&whole.slice(..at)), Err(FrameError::Foreign));
    }

    /// Where the checksum is right, as nobody but a node writes it, what it holds may be anything all the same.
    #[test]
    fn changed_writes_are_read_or_refused(
        writes in vec(write(), 0..4),
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
        cut in any::<usize>(),
    ) {
        let mut bytes = encode_writes(writes.iter(), 0).to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let cut = cut % (bytes.len() + 1);
        let _ = decode_writes(bytes[..cut].to_vec().into());
        if let Ok(read) = decode_writes(bytes.into()) {
            let again = decode_writes(encode_writes(read.iter(), 0)).unwrap();
            prop_assert_eq!(text(&again), text(&read));
        }
    }

    #[test]
    fn noise_is_refused(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(Frame::decode(&bytes.clone().into()).is_err());
        let _ = decode_writes(bytes.into());
    }
}

#[test]
fn a_large_entry_has_parts() {
    for (length, count) in
        [(0, 1), (1, 1), (PART_BYTES_MAX, 1), (PART_BYTES_MAX + 1, 2), (3 * PART_BYTES_MAX, 3)]
    {
        let bytes: Bytes = vec![7; length].into();
        let parts = parts(bytes.clone());
        assert_eq!(parts.len(), count, "{length}");
        assert_eq!(parts.concat(), bytes);
    }
}
