//! Writes as bytes. A write of a kind that is not known here is an error: a node must not pass over what others apply.
//!
//! | byte | write | then |
//! | --- | --- | --- |
//! | 0 | publish | flags, key and request, cursor of the condition, number of messages, messages |
//! | 1 | delete | topic |
//! | 2 | retain | topic, position |
//! | 3 | compact | topic, two positions |
//! | 4 | options | term, flags, values |
//! | 5 | opening | epoch, how the log was found |
//! | 6 | remove | cursor, why |
//! | 7 | forget | topic, position |
//!
//! A message is its topic, its media type, flags with key, event, headers and lifetime where it has any, and its body.

use bytes::{BufMut, BytesMut};
use tailwire_core::{log::Group, store::Write};
use tailwire_model::{
    Bound, Condition, Cursor, Draft, Durability, Epoch, Fingerprint, IdempotencyKey, Keep, MediaType,
    Opening, Options, Position, Term, Topic, TrimReason, message::Extras,
};

use crate::codec::{Malformed, Taker, put_bytes, put_varint};

const PUBLISH: u8 = 0;
const DELETE: u8 = 1;
const RETAIN: u8 = 2;
const COMPACT: u8 = 3;
const OPTIONS: u8 = 4;
const OPENING: u8 = 5;
const REMOVE: u8 = 6;
const FORGET: u8 = 7;

/// Flags of a publish.
const HAS_KEY: u8 = 1;
const NOTHING_AFTER: u8 = 2;
const NEVER_WRITTEN: u8 = 4;

/// Flags of a message's extras.
const EXTRA_KEY: u8 = 1;
const EXTRA_EVENT: u8 = 2;
const EXTRA_HEADERS: u8 = 4;
const EXTRA_AGE: u8 = 8;
const EXTRA_DELETION: u8 = 16;
const HAS_EXTRAS: u8 = 8;

/// Flags of options: which are set.
const SET_DURABILITY: u8 = 1;
const SET_AGE: u8 = 2;
const SET_MESSAGES: u8 = 4;
const SET_BYTES: u8 = 8;
const SET_KEEP: u8 = 16;
const SET_TITLE: u8 = 32;
const SET_DESCRIPTION: u8 = 64;

const NO_TYPE: u8 = 0;
const JSON: u8 = 1;
const OTHER_TYPE: u8 = 2;

/// Appends a write.
pub(crate) fn put_write(out: &mut BytesMut, write: &Write) {
    match write {
        Write::Publish(group) => put_group(out, group),
        Write::Delete(topic) => {
            out.put_u8(DELETE);
            put_bytes(out, topic.as_str().as_bytes());
        }
        Write::Retain(topic, upto) => {
            out.put_u8(RETAIN);
            put_bytes(out, topic.as_str().as_bytes());
            put_varint(out, upto.0);
        }
        Write::Forget(topic, upto) => {
            out.put_u8(FORGET);
            put_bytes(out, topic.as_str().as_bytes());
            put_varint(out, upto.0);
        }
        Write::Compact(topic, after, upto) => {
            out.put_u8(COMPACT);
            put_bytes(out, topic.as_str().as_bytes());
            put_varint(out, after.0);
            put_varint(out, upto.0);
        }
        Write::Options(term, options) => {
            out.put_u8(OPTIONS);
            put_bytes(out, term.as_str().as_bytes());
            put_options(out, options);
        }
        Write::Opening(epoch, opening) => {
            out.put_u8(OPENING);
            put_varint(out, epoch.number());
            out.put_u8(match opening {
                Opening::Created => 0,
                Opening::Clean => 1,
                Opening::Unclean => 2,
            });
        }
        Write::Remove(cursor, reason) => {
            out.put_u8(REMOVE);
            put_cursor(out, *cursor);
            out.put_u8(match reason {
                TrimReason::Retention => 0,
                TrimReason::Deleted => 1,
                TrimReason::Lost => 2,
            });
        }
    }
}

/// Takes a write.
pub(crate) fn take_write(from: &mut Taker) -> Result<Write, Malformed> {
    Ok(match from.byte()? {
        PUBLISH => Write::Publish(take_group(from)?),
        DELETE => Write::Delete(take_topic(from)?),
        RETAIN => Write::Retain(take_topic(from)?, Position(from.varint()?)),
        FORGET => Write::Forget(take_topic(from)?, Position(from.varint()?)),
        COMPACT => Write::Compact(take_topic(from)?, Position(from.varint()?), Position(from.varint()?)),
        OPTIONS => {
            let term = Term::parse(from.text()?).map_err(|_| Malformed("a term is none"))?;
            Write::Options(term, take_options(from)?)
        }
        OPENING => {
            let epoch = Epoch::new(from.varint()?).ok_or(Malformed("an epoch is too large"))?;
            let opening = match from.byte()? {
                0 => Opening::Created,
                1 => Opening::Clean,
                2 => Opening::Unclean,
                _ => return Err(Malformed("an opening of no kind")),
            };
            Write::Opening(epoch, opening)
        }
        REMOVE => {
            let cursor = take_cursor(from)?;
            let reason = match from.byte()? {
                0 => TrimReason::Retention,
                1 => TrimReason::Deleted,
                2 => TrimReason::Lost,
                _ => return Err(Malformed("a reason of no known kind")),
            };
            Write::Remove(cursor, reason)
        }
        _ => return Err(Malformed("a write of no known kind")),
    })
}

fn put_group(out: &mut BytesMut, Group { drafts, key, condition }: &Group) {
    out.put_u8(PUBLISH);
    let condition_flag = match condition {
        Condition::None => 0,
        Condition::NothingAfter(_) => NOTHING_AFTER,
        Condition::NeverWritten => NEVER_WRITTEN,
    };
    out.put_u8(condition_flag | if key.is_some() { HAS_KEY } else { 0 });
    if let Some(IdempotencyKey { scoped, request: Fingerprint(request) }) = key {
        put_bytes(out, scoped.as_bytes());
        out.put_slice(request);
    }
    if let Condition::NothingAfter(cursor) = condition {
        put_cursor(out, *cursor);
    }
    put_varint(out, drafts.len() as u64);
    drafts.iter().for_each(|draft| put_draft(out, draft));
}

fn take_group(from: &mut Taker) -> Result<Group, Malformed> {
    let flags = from.byte()?;
    let key = if flags & HAS_KEY != 0 {
        let scoped = from.text()?.to_owned();
        Some(IdempotencyKey { scoped, request: Fingerprint(from.array()?) })
    } else {
        None
    };
    let condition = if flags & NOTHING_AFTER != 0 {
        Condition::NothingAfter(take_cursor(from)?)
    } else if flags & NEVER_WRITTEN != 0 {
        Condition::NeverWritten
    } else {
        Condition::None
    };
    let count = from.count()?;
    if count == 0 {
        return Err(Malformed("a publish of nothing"));
    }
    let drafts = (0..count).map(|_| take_draft(from)).collect::<Result<_, _>>()?;
    Ok(Group { drafts, key, condition })
}

fn put_cursor(out: &mut BytesMut, Cursor { epoch, position }: Cursor) {
    put_varint(out, epoch.number());
    put_varint(out, position.0);
}

fn take_cursor(from: &mut Taker) -> Result<Cursor, Malformed> {
    let epoch = Epoch::new(from.varint()?).ok_or(Malformed("an epoch is too large"))?;
    Ok(Cursor { epoch, position: Position(from.varint()?) })
}

fn put_draft(out: &mut BytesMut, Draft { topic, media_type, extras, body }: &Draft) {
    put_bytes(out, topic.as_str().as_bytes());
    let kind = match media_type.as_str() {
        None => NO_TYPE,
        Some("application/json") => JSON,
        Some(_) => OTHER_TYPE,
    };
    out.put_u8(kind | if extras.is_some() { HAS_EXTRAS } else { 0 });
    if kind == OTHER_TYPE {
        put_bytes(out, media_type.as_str().unwrap_or_default().as_bytes());
    }
    if let Some(extras) = extras {
        put_extras(out, extras);
    }
    put_bytes(out, body);
}

fn take_draft(from: &mut Taker) -> Result<Draft, Malformed> {
    let topic = take_topic(from)?;
    let flags = from.byte()?;
    let media_type = match flags & !HAS_EXTRAS {
        NO_TYPE => MediaType::NONE,
        JSON => MediaType::JSON,
        OTHER_TYPE => MediaType::new(from.text()?),
        _ => return Err(Malformed("a media type of no known kind")),
    };
    let extras = (flags & HAS_EXTRAS != 0).then(|| take_extras(from).map(Box::new)).transpose()?;
    Ok(Draft { topic, media_type, extras, body: from.bytes()? })
}

fn put_extras(out: &mut BytesMut, extras: &Extras) {
    let Extras { key, event, headers, max_age_ms, is_deletion } = extras;
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.put_u8(
        flag(key.is_some(), EXTRA_KEY)
            | flag(event.is_some(), EXTRA_EVENT)
            | flag(!headers.is_empty(), EXTRA_HEADERS)
            | flag(max_age_ms.is_some(), EXTRA_AGE)
            | flag(*is_deletion, EXTRA_DELETION),
    );
    key.iter().chain(event).for_each(|text| put_bytes(out, text.as_bytes()));
    if !headers.is_empty() {
        put_varint(out, headers.len() as u64);
        for (name, value) in headers {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    if let Some(max_age_ms) = max_age_ms {
        put_varint(out, *max_age_ms);
    }
}

fn take_extras(from: &mut Taker) -> Result<Extras, Malformed> {
    let flags = from.byte()?;
    let mut text = |flag: u8| (flags & flag != 0).then(|| from.text().map(str::to_owned)).transpose();
    let (key, event) = (text(EXTRA_KEY)?, text(EXTRA_EVENT)?);
    let mut headers = Vec::new();
    if flags & EXTRA_HEADERS != 0 {
        for _ in 0..from.count()? {
            let name = from.text()?.to_owned();
            headers.push((name, from.text()?.to_owned()));
        }
    }
    let max_age_ms = (flags & EXTRA_AGE != 0).then(|| from.varint()).transpose()?;
    Ok(Extras { key, event, headers, max_age_ms, is_deletion: flags & EXTRA_DELETION != 0 })
}

fn put_options(out: &mut BytesMut, options: &Options) {
    let Options { durability, max_age_ms, max_messages, max_bytes, keep, title, description } = options;
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.put_u8(
        flag(durability.is_some(), SET_DURABILITY)
            | flag(max_age_ms.is_some(), SET_AGE)
            | flag(max_messages.is_some(), SET_MESSAGES)
            | flag(max_bytes.is_some(), SET_BYTES)
            | flag(keep.is_some(), SET_KEEP)
            | flag(title.is_some(), SET_TITLE)
            | flag(description.is_some(), SET_DESCRIPTION),
    );
    if let Some(durability) = durability {
        out.put_u8(match durability {
            Durability::Sync => 0,
            Durability::Relaxed => 1,
            Durability::Memory => 2,
        });
    }
    for Bound(bound) in [max_age_ms, max_messages, max_bytes].into_iter().flatten() {
        put_varint(out, *bound);
    }
    if let Some(keep) = keep {
        out.put_u8(match keep {
            Keep::All => 0,
            Keep::Compact => 1,
            Keep::Last => 2,
        });
    }
    for label in [title, description].into_iter().flatten() {
        put_bytes(out, label.as_bytes());
    }
}

fn take_options(from: &mut Taker) -> Result<Options, Malformed> {
    let flags = from.byte()?;
    let unknown = Malformed("an option of no known kind");
    if flags >= SET_DESCRIPTION << 1 {
        return Err(unknown);
    }
    let durability = if flags & SET_DURABILITY != 0 {
        Some(match from.byte()? {
            0 => Durability::Sync,
            1 => Durability::Relaxed,
            2 => Durability::Memory,
            _ => return Err(unknown),
        })
    } else {
        None
    };
    let mut bound = |flag: u8| (flags & flag != 0).then(|| from.varint().map(Bound)).transpose();
    let (max_age_ms, max_messages, max_bytes) = (bound(SET_AGE)?, bound(SET_MESSAGES)?, bound(SET_BYTES)?);
    let keep = if flags & SET_KEEP != 0 {
        Some(match from.byte()? {
            0 => Keep::All,
            1 => Keep::Compact,
            2 => Keep::Last,
            _ => return Err(unknown),
        })
    } else {
        None
    };
    let mut label = |flag: u8| (flags & flag != 0).then(|| from.text().map(Into::into)).transpose();
    let (title, description) = (label(SET_TITLE)?, label(SET_DESCRIPTION)?);
    Ok(Options { durability, max_age_ms, max_messages, max_bytes, keep, title, description })
}

fn take_topic(from: &mut Taker) -> Result<Topic, Malformed> {
    Topic::parse(from.text()?).map_err(|_| Malformed("a topic is none"))
}
