//! The small stored values: epochs, trims, options, idempotency keys, and the mark of a clean close. Each is sealed with its
//! key, or labelled with it where a repair needs it. Numbers in keys are big-endian, so that the engine's order is theirs; in values they are little-endian.

use tailwire_model::{
    Bound, Cursor, Durability, Epoch, EpochStart, Fingerprint, Keep, Opening, Options, Position, Timestamp,
    Topic, Trim, TrimReason, admission::KeyRecord, limits::IDEMPOTENCY_WINDOW_MS,
};

use super::label::{self, Kind};
use crate::batch::CompactionKey;
use crate::codec::{ByteReader, Damage, put_str, seal, unseal};
use crate::index::Floor;

const TOO_LARGE: Damage = Damage("an epoch is too large");

/// The number of an epoch, as it stands in values.
pub(crate) fn take_epoch_number(reader: &mut ByteReader<'_>) -> Result<Epoch, Damage> {
    Epoch::new(reader.u64()?).ok_or(TOO_LARGE)
}

/// Key of an epoch.
pub(crate) fn epoch_key(epoch: Epoch) -> [u8; 8] {
    epoch.number().to_be_bytes()
}

/// Value of an epoch.
pub(crate) fn put_epoch(start: &EpochStart) -> Vec<u8> {
    let mut value = label::begin(Kind::Epoch, &epoch_key(start.epoch), 9);
    value.extend_from_slice(&start.first.0.to_le_bytes());
    value.push(match start.opening {
        Opening::Created => 0,
        Opening::Clean => 1,
        Opening::Unclean => 2,
    });
    label::end(&mut value);
    value
}

/// An epoch from its key and value.
pub(crate) fn take_epoch(key: &[u8], labelled: &[u8]) -> Result<EpochStart, Damage> {
    let mut reader = ByteReader(label::open(Kind::Epoch, key, labelled)?);
    let number = u64::from_be_bytes(key.try_into().map_err(|_| Damage("the key of an epoch is none"))?);
    let epoch = Epoch::new(number).ok_or(TOO_LARGE)?;
    let first = Position(reader.u64()?);
    let opening = match reader.byte()? {
        0 => Opening::Created,
        1 => Opening::Clean,
        2 => Opening::Unclean,
        _ => return Err(Damage("an epoch has an unknown opening")),
    };
    Ok(EpochStart { epoch, first, opening })
}

/// What a trim stands for, beside what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrimState {
    /// Its topic is known.
    Known,
    /// The same, and messages that the topic had before it was forgotten may be left in chunks: it takes these, too.
    KnownAgain,
    /// Its topic is forgotten, and messages that it took may be left in chunks.
    Forgotten,
}

/// Value of a trim: beside it the time of the topic's newest message, which the store may not hold much longer.
pub(crate) fn put_trim(topic: &[u8], trim: Trim, tail_time: Timestamp, state: TrimState) -> Vec<u8> {
    let mut value = label::begin(Kind::Trim, topic, 18);
    value.extend_from_slice(&trim.upto.0.to_le_bytes());
    value.extend_from_slice(&tail_time.0.to_le_bytes());
    value.push(reason_byte(trim.reason));
    value.push(match state {
        TrimState::Known => 0,
        TrimState::KnownAgain => 1,
        TrimState::Forgotten => 2,
    });
    label::end(&mut value);
    value
}

/// A trim from its topic and value.
pub(crate) fn take_trim(topic: &[u8], labelled: &[u8]) -> Result<(Trim, Timestamp, TrimState), Damage> {
    let mut reader = ByteReader(label::open(Kind::Trim, topic, labelled)?);
    let (upto, time) = (Position(reader.u64()?), Timestamp(reader.u64()?));
    let reason = take_reason(&mut reader)?;
    let state = match reader.byte()? {
        0 => TrimState::Known,
        1 => TrimState::KnownAgain,
        2 => TrimState::Forgotten,
        _ => return Err(Damage("a trim is of an unknown kind")),
    };
    Ok((Trim { upto, reason }, time, state))
}

/// The key under which the floor stands among the trims: how far topics had come that are forgotten. No topic is named so.
pub(crate) const FORGOTTEN_TOPICS: &[u8] = b"";

/// Value of the floor.
pub(crate) fn put_floor(floor: Floor) -> Vec<u8> {
    let trim = Trim { upto: floor.upto, reason: TrimReason::Retention };
    put_trim(FORGOTTEN_TOPICS, trim, floor.time, TrimState::Forgotten)
}

/// The floor from its value.
pub(crate) fn take_floor(labelled: &[u8]) -> Result<Floor, Damage> {
    take_trim(FORGOTTEN_TOPICS, labelled).map(|(trim, time, _)| Floor { upto: trim.upto, time })
}

const fn reason_byte(reason: TrimReason) -> u8 {
    match reason {
        TrimReason::Retention => 0,
        TrimReason::Deleted => 1,
        TrimReason::Lost => 2,
    }
}

fn take_reason(reader: &mut ByteReader<'_>) -> Result<TrimReason, Damage> {
    match reader.byte()? {
        0 => Ok(TrimReason::Retention),
        1 => Ok(TrimReason::Deleted),
        2 => Ok(TrimReason::Lost),
        _ => Err(Damage("messages are gone for an unknown reason")),
    }
}

/// A message that was taken by itself.
#[derive(Debug, Clone)]
pub(crate) struct StoredRemoval {
    pub(crate) topic: Topic,
    /// Its place, and why it was taken.
    pub(crate) trim: Trim,
    /// When it came.
    pub(crate) time: Timestamp,
    /// Whether its bytes are gone, too.
    pub(crate) is_purged: bool,
}

/// Key of a message that was taken by itself: its topic, a zero byte, which no topic has, and its position.
pub(crate) fn removed_key(topic: &Topic, position: Position) -> Vec<u8> {
    [topic.as_str().as_bytes(), &[0], &position.0.to_be_bytes()].concat()
}

/// Its value: when it came, why it was taken, and whether its bytes are gone.
pub(crate) fn put_removed(key: &[u8], reason: TrimReason, time: Timestamp, is_purged: bool) -> Vec<u8> {
    let mut value = label::begin(Kind::Removed, key, 10);
    value.extend_from_slice(&time.0.to_le_bytes());
    value.extend_from_slice(&[reason_byte(reason), u8::from(is_purged)]);
    label::end(&mut value);
    value
}

/// A message that was taken by itself, from its key and value.
pub(crate) fn take_removed(key: &[u8], labelled: &[u8]) -> Result<StoredRemoval, Damage> {
    const NONE: Damage = Damage("its key is none");
    let mut reader = ByteReader(label::open(Kind::Removed, key, labelled)?);
    let (name, position) = key.split_last_chunk::<8>().ok_or(NONE)?;
    let name = name.strip_suffix(&[0]).and_then(|name| std::str::from_utf8(name).ok()).ok_or(NONE)?;
    let topic = Topic::parse(name).map_err(|_| NONE)?;
    let (time, reason) = (Timestamp(reader.u64()?), take_reason(&mut reader)?);
    let upto = Position(u64::from_be_bytes(*position));
    Ok(StoredRemoval { topic, trim: Trim { upto, reason }, time, is_purged: reader.byte()? != 0 })
}

/// Key of a message's own lifetime: when it ends, and its position.
pub(crate) fn lifetime_key(ends: Timestamp, position: Position) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&ends.0.to_be_bytes());
    key[8..].copy_from_slice(&position.0.to_be_bytes());
    key
}

/// Its value: the message's epoch, and how long it lives.
pub(crate) fn put_lifetime(key: &[u8], epoch: Epoch, max_age_ms: u64) -> Vec<u8> {
    let mut value = epoch.number().to_le_bytes().to_vec();
    value.extend_from_slice(&max_age_ms.to_le_bytes());
    seal(key, &mut value);
    value
}

/// A message's own lifetime from its key and value: when it ends, whose it is, and how long it is.
pub(crate) fn take_lifetime(key: &[u8], sealed: &[u8]) -> Result<(Timestamp, Cursor, u64), Damage> {
    let mut reader = ByteReader(unseal(key, sealed)?);
    let (ends, position) = key.split_first_chunk::<8>().ok_or(Damage("its key is none"))?;
    let position = position.try_into().map_err(|_| Damage("its key is none"))?;
    let cursor =
        Cursor { epoch: take_epoch_number(&mut reader)?, position: Position(u64::from_be_bytes(position)) };
    Ok((Timestamp(u64::from_be_bytes(*ends)), cursor, reader.u64()?))
}

/// Value of the options of a term: a byte each for durability and what stays, zero if not set; then the bounds on age,
/// messages and bytes, each after a byte that says whether it is set. Title and description follow as strings,
/// empty if not set; where neither is, both are left out.
pub(crate) fn put_options(term: &[u8], options: &Options) -> Vec<u8> {
    let durability = match options.durability {
        None => 0,
        Some(Durability::Sync) => 1,
        Some(Durability::Relaxed) => 2,
        Some(Durability::Memory) => 3,
    };
    let keep = match options.keep {
        None => 0,
        Some(Keep::All) => 1,
        Some(Keep::Compact) => 2,
        Some(Keep::Last) => 3,
    };
    let mut value = vec![durability, keep];
    for bound in [options.max_age_ms, options.max_messages, options.max_bytes] {
        value.push(u8::from(bound.is_some()));
        value.extend_from_slice(&bound.map_or(0, |bound| bound.0).to_le_bytes());
    }
    if options.title.is_some() || options.description.is_some() {
        for label in [&options.title, &options.description] {
            put_str(&mut value, label.as_deref().unwrap_or_default());
        }
    }
    seal(term, &mut value);
    value
}

/// The options of a term from its key and value.
pub(crate) fn take_options(term: &[u8], sealed: &[u8]) -> Result<Options, Damage> {
    let mut reader = ByteReader(unseal(term, sealed)?);
    let durability = match reader.byte()? {
        0 => None,
        1 => Some(Durability::Sync),
        2 => Some(Durability::Relaxed),
        3 => Some(Durability::Memory),
        _ => return Err(Damage("options have an unknown durability")),
    };
    let keep = match reader.byte()? {
        0 => None,
        1 => Some(Keep::All),
        2 => Some(Keep::Compact),
        3 => Some(Keep::Last),
        _ => return Err(Damage("options keep messages by an unknown rule")),
    };
    let mut bound = || {
        let is_set = reader.byte()? != 0;
        Ok(Some(Bound(reader.u64()?)).filter(|_| is_set))
    };
    let (max_age_ms, max_messages, max_bytes) = (bound()?, bound()?, bound()?);
    let mut label = || {
        let text = if reader.0.is_empty() { "" } else { reader.str()? };
        Ok(Some(text.into()).filter(|_| !text.is_empty()))
    };
    let (title, description) = (label()?, label()?);
    Ok(Options { durability, keep, max_age_ms, max_messages, max_bytes, title, description })
}

/// The spans of time by which keys are sorted in the store. A span is as long as a key is kept, so a key that counts
/// is in the current span or the one before, and all older spans go as a whole. They are counted by the steady clock; for
/// as long as a key is kept after an opening, those that an earlier process wrote last count, too, wherever its clock stood.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeySpans {
    opened: Timestamp,
    base: u32,
    /// The last one that an earlier process wrote.
    earlier: u32,
}

impl KeySpans {
    /// Those of a log that is opened at a time, in which this key is the last.
    pub(crate) fn new(opened: Timestamp, last: Option<&[u8]>) -> Self {
        let own = u32::try_from(opened.0 / IDEMPOTENCY_WINDOW_MS).unwrap_or(u32::MAX);
        let earlier = last.and_then(|key| Some(u32::from_be_bytes(*key.first_chunk()?))).unwrap_or(own);
        Self { opened, base: own.max(earlier), earlier }
    }

    /// The current one.
    pub(crate) fn at(&self, time: Timestamp) -> u32 {
        let passed = (time.since(self.opened) / IDEMPOTENCY_WINDOW_MS).try_into().unwrap_or(u32::MAX);
        self.base.saturating_add(passed)
    }

    /// Those that a key which counts may be in.
    pub(crate) fn living(&self, time: Timestamp) -> impl Iterator<Item = u32> {
        let own = self.at(time);
        let earlier = (time.since(self.opened) < IDEMPOTENCY_WINDOW_MS).then_some(self.earlier);
        let other = earlier.filter(|earlier| *earlier != own);
        [Some(own), own.checked_sub(1), other, other.and_then(|it| it.checked_sub(1))].into_iter().flatten()
    }

    /// The first that is not to go.
    pub(crate) fn kept(&self, time: Timestamp) -> u32 {
        self.living(time).min().unwrap_or_default()
    }
}

/// Key of an idempotency key's record.
pub(crate) fn key_key(span: u32, scoped: &str) -> Vec<u8> {
    [&span.to_be_bytes(), scoped.as_bytes()].concat()
}

/// Value of an idempotency key's record.
pub(crate) fn put_key(key: &[u8], record: &KeyRecord) -> Vec<u8> {
    let mut value = record.request.0.to_vec();
    value.extend_from_slice(&record.first.epoch.number().to_le_bytes());
    value.extend_from_slice(&record.first.position.0.to_le_bytes());
    value.extend_from_slice(&record.count.to_le_bytes());
    value.extend_from_slice(&record.time.0.to_le_bytes());
    seal(key, &mut value);
    value
}

/// An idempotency key's record from its key and value.
pub(crate) fn take_key(key: &[u8], sealed: &[u8]) -> Result<KeyRecord, Damage> {
    let mut reader = ByteReader(unseal(key, sealed)?);
    let request = Fingerprint(reader.array()?);
    let epoch = take_epoch_number(&mut reader)?;
    let first = Cursor { epoch, position: Position(reader.u64()?) };
    Ok(KeyRecord { request, first, count: reader.u32()?, time: Timestamp(reader.u64()?) })
}

/// The beginning of the keys of what stands under a topic and more: the topic, and a zero byte, which no topic has.
pub(crate) fn topic_prefix(topic: &Topic) -> Vec<u8> {
    [topic.as_str().as_bytes(), &[0]].concat()
}

/// Key of a compaction key: the topic, a zero byte that no topic has, and the key, if the topic keeps one message a key.
pub(crate) fn latest_key(place: &CompactionKey) -> Vec<u8> {
    let topic = place.topic.as_str().as_bytes();
    match &place.key {
        None => [topic, &[0, 0]].concat(),
        Some(key) => [topic, &[0, 1], key.as_bytes()].concat(),
    }
}

/// Value of a compaction key: its latest message, and the latest as of the commit before, which counts if the other did not
/// survive a crash.
pub(crate) fn put_latest(key: &[u8], entries: [Option<(Cursor, usize)>; 2]) -> Vec<u8> {
    let mut value = Vec::with_capacity(52);
    for (cursor, cost) in entries.into_iter().flatten() {
        value.extend_from_slice(&cursor.epoch.number().to_le_bytes());
        value.extend_from_slice(&cursor.position.0.to_le_bytes());
        value.extend_from_slice(&(cost as u64).to_le_bytes());
    }
    seal(key, &mut value);
    value
}

/// The latest messages of a compaction key, newest first.
pub(crate) fn take_latest(key: &[u8], sealed: &[u8]) -> Result<Vec<(Cursor, usize)>, Damage> {
    let mut reader = ByteReader(unseal(key, sealed)?);
    let mut entries = Vec::with_capacity(2);
    while !reader.0.is_empty() {
        let epoch = take_epoch_number(&mut reader)?;
        let cursor = Cursor { epoch, position: Position(reader.u64()?) };
        let cost = usize::try_from(reader.u64()?).map_err(|_| Damage("a cost is too large"))?;
        entries.push((cursor, cost));
    }
    Ok(entries)
}

/// The key under which stands how far any topic may have lost messages, as a repair found. No topic is named so.
pub(crate) const EVERY_TOPIC: &[u8] = b"";

/// Value of a topic with messages that are never stored: how far it has lost them, zero as long as it is not known.
pub(crate) fn put_lost(topic: &[u8], upto: Position) -> Vec<u8> {
    let mut value = label::begin(Kind::Lost, topic, 8);
    value.extend_from_slice(&upto.0.to_le_bytes());
    label::end(&mut value);
    value
}

/// How far a topic has lost messages that were never stored.
pub(crate) fn take_lost(topic: &[u8], labelled: &[u8]) -> Result<Position, Damage> {
    ByteReader(label::open(Kind::Lost, topic, labelled)?).u64().map(Position)
}

/// Value of a fragment, with the epoch of its message, as in a chunk.
pub(crate) fn put_fragment(position: Position, number: u32, epoch: Epoch, bytes: &[u8]) -> Vec<u8> {
    let mut value = label::begin(Kind::Fragment, &fragment_key(position, number), 8 + bytes.len());
    value.extend_from_slice(&epoch.number().to_le_bytes());
    value.extend_from_slice(bytes);
    label::end(&mut value);
    value
}

/// The epoch and the bytes of a fragment from its key and value.
pub(crate) fn take_fragment<'a>(key: &[u8], labelled: &'a [u8]) -> Result<(Epoch, &'a [u8]), Damage> {
    let mut reader = ByteReader(label::open(Kind::Fragment, key, labelled)?);
    let epoch = take_epoch_number(&mut reader)?;
    Ok((epoch, reader.0))
}

/// Key of a fragment.
pub(crate) fn fragment_key(position: Position, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&position.0.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_round_trip() {
        let epoch = Epoch::opening(1_800_000_000_000, None, 0).unwrap();
        for opening in [Opening::Created, Opening::Clean, Opening::Unclean] {
            let start = EpochStart { epoch, first: Position(9), opening };
            assert_eq!(take_epoch(&epoch_key(epoch), &put_epoch(&start)), Ok(start));
        }
        for reason in [TrimReason::Retention, TrimReason::Deleted, TrimReason::Lost] {
            let trim = Trim { upto: Position(77), reason };
            for state in [TrimState::Known, TrimState::KnownAgain, TrimState::Forgotten] {
                let value = put_trim(b"a/b", trim, Timestamp(5), state);
                assert_eq!(take_trim(b"a/b", &value), Ok((trim, Timestamp(5), state)));
                assert!(take_trim(b"a/c", &value).is_err());
            }
        }
        let bounds =
            Options { max_age_ms: Some(Bound(7)), max_bytes: Some(Bound::NONE), ..Options::default() };
        for durability in [None, Some(Durability::Sync), Some(Durability::Relaxed), Some(Durability::Memory)]
        {
            for keep in [None, Some(Keep::All), Some(Keep::Compact), Some(Keep::Last)] {
                for (title, description) in
                    [(None, None), (Some("T"), None), (None, Some("ü")), (Some("T"), Some("D"))]
                {
                    let (title, description) = (title.map(Into::into), description.map(Into::into));
                    let options = Options { durability, keep, title, description, ..bounds.clone() };
                    assert_eq!(take_options(b"a/*", &put_options(b"a/*", &options)), Ok(options));
                }
            }
        }
        let cursor = |position| Cursor { epoch, position: Position(position) };
        let topic = tailwire_model::Topic::parse("a/b").unwrap();
        for key in [None, Some("k".into())] {
            let key = latest_key(&CompactionKey { topic: topic.clone(), key });
            let one = put_latest(&key, [Some((cursor(7), 90)), None]);
            assert_eq!(take_latest(&key, &one), Ok(vec![(cursor(7), 90)]));
            let two = put_latest(&key, [Some((cursor(7), 90)), Some((cursor(2), 80))]);
            assert_eq!(take_latest(&key, &two), Ok(vec![(cursor(7), 90), (cursor(2), 80)]));
        }
        assert_eq!(take_lost(b"a", &put_lost(b"a", Position(4))), Ok(Position(4)));
        let key = key_key(7, "caller key");
        let first = Cursor { epoch, position: Position(3) };
        let record = KeyRecord { request: Fingerprint([7; 16]), first, count: 4, time: Timestamp(1) };
        assert_eq!(take_key(&key, &put_key(&key, &record)), Ok(record));
    }
}
