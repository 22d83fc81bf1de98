//! Quotas by pattern: a publish is refused that would have the topics of a pattern take more than they may, by the figures of the
//! store and by what is on its way there. A node of a cluster knows only of its own publishes that are on their way; the
//! figures are those of the log, which all nodes share.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use parking_lot::Mutex;
use tailwire_model::{Draft, PatternTree, Quota, QuotaExceeded, Topic, Usage};

use crate::{log::Group, store::Store};

/// See the module. Cloning is cheap.
#[derive(Clone, Default)]
pub(crate) struct Quotas(Option<Arc<QuotaTable>>);

struct QuotaTable {
    quotas: Vec<Quota>,
    /// The number of each pattern.
    numbers: PatternTree<usize>,
    coming: Mutex<Coming>,
}

/// Publishes that are on their way to the store.
#[derive(Default)]
struct Coming {
    /// By the number of the pattern.
    usage: Vec<Usage>,
    /// Topics that begin with them, and with how many.
    topics: HashMap<Topic, usize>,
}

/// The share of a publish that is on its way, until this is dropped.
#[derive(Default)]
pub(crate) struct QuotaShare {
    _share: Option<Box<PublishShare>>,
}

struct PublishShare {
    shared: Arc<QuotaTable>,
    /// By the number of the pattern.
    bytes: Vec<(usize, u64)>,
    topics: HashSet<Topic>,
}

impl Quotas {
    /// Has the store sum by the patterns of these quotas.
    pub(crate) fn new(quotas: Vec<Quota>, store: &dyn Store) -> Self {
        if quotas.is_empty() {
            return Self(None);
        }
        let mut numbers = PatternTree::default();
        for (number, quota) in quotas.iter().enumerate() {
            numbers.insert(&quota.pattern, number);
        }
        let patterns: Vec<_> = quotas.iter().map(|quota| quota.pattern.clone()).collect();
        store.sum_by(&patterns);
        let usage = vec![Usage::default(); quotas.len()];
        let coming = Mutex::new(Coming { usage, topics: HashMap::new() });
        Self(Some(Arc::new(QuotaTable { quotas, numbers, coming })))
    }

    /// Lets a publish on its way. One that was stored before, under the same key, takes nothing more: its receipt is given again.
    ///
    /// # Errors
    /// The quota that has no room for all of them.
    pub(crate) fn admit(&self, group: &Group, store: &dyn Store) -> Result<QuotaShare, QuotaExceeded> {
        let Some(shared) = &self.0 else { return Ok(QuotaShare::default()) };
        let (bytes, topics) = shared.share(&group.drafts, store);
        if bytes.is_empty() {
            return Ok(QuotaShare::default());
        }
        let is_stored = || group.key.as_ref().is_some_and(|key| store.has_key(&key.scoped).unwrap_or(false));
        match shared.take(&bytes, &topics, store) {
            Ok(()) => Ok(QuotaShare {
                _share: Some(Box::new(PublishShare { shared: shared.clone(), bytes, topics })),
            }),
            Err(_) if is_stored() => Ok(QuotaShare::default()),
            Err(exceeded) => Err(exceeded),
        }
    }
}

impl Quotas {
    /// Each quota, and what its topics have.
    pub(crate) fn usage(&self, store: &dyn Store) -> Vec<(Quota, Usage)> {
        let quotas = self.0.iter().flat_map(|table| table.quotas.iter().enumerate());
        quotas.map(|(number, quota)| (quota.clone(), store.sum(number))).collect()
    }
}

impl QuotaTable {
    /// The bytes of messages by the patterns of their topics, and those topics that are not there.
    fn share(&self, drafts: &[Draft], store: &dyn Store) -> (Vec<(usize, u64)>, HashSet<Topic>) {
        let mut bytes: Vec<(usize, u64)> = Vec::new();
        let mut topics = HashSet::new();
        for group in drafts.chunk_by(|one, two| one.topic == two.topic) {
            let Some(Draft { topic, .. }) = group.first() else { continue };
            let cost: usize = group.iter().map(Draft::cost).sum();
            let mut counts_topics = false;
            self.numbers.matching(topic, |&number| {
                counts_topics |= self.quotas[number].topics.is_some();
                match bytes.iter_mut().find(|(own, _)| *own == number) {
                    Some((_, sum)) => *sum += cost as u64,
                    None => bytes.push((number, cost as u64)),
                }
            });
            if counts_topics && !store.has_topic(topic) {
                topics.insert(topic.clone());
            }
        }
        (bytes, topics)
    }

    fn take(
        &self,
        bytes: &[(usize, u64)],
        topics: &HashSet<Topic>,
        store: &dyn Store,
    ) -> Result<(), QuotaExceeded> {
        let mut coming = self.coming.lock();
        let mut begun = vec![0; bytes.len()];
        for topic in topics.iter().filter(|topic| !coming.topics.contains_key(*topic)) {
            self.numbers.matching(topic, |number| {
                if let Some(at) = bytes.iter().position(|(own, _)| own == number) {
                    begun[at] += 1;
                }
            });
        }
        let asked =
            || bytes.iter().zip(&begun).map(|(&(number, bytes), &topics)| (number, Usage { bytes, topics }));
        for (number, own) in asked() {
            let (stored, coming) = (store.sum(number), coming.usage[number]);
            // Where nothing begins, a number of topics that is beyond its bound is none of this publish's doing.
            let topics = if own.topics > 0 { stored.topics + coming.topics + own.topics } else { 0 };
            let bytes = stored.bytes + coming.bytes + own.bytes;
            self.quotas[number].check(Usage { bytes, topics })?;
        }
        for (number, own) in asked() {
            coming.usage[number].bytes += own.bytes;
            coming.usage[number].topics += own.topics;
        }
        topics.iter().for_each(|topic| *coming.topics.entry(topic.clone()).or_default() += 1);
        Ok(())
    }
}

impl Drop for PublishShare {
    fn drop(&mut self) {
        let Self { shared, bytes, topics } = self;
        let mut coming = shared.coming.lock();
        bytes.iter().for_each(|&(number, sum)| coming.usage[number].bytes -= sum);
        for topic in mem::take(topics) {
            let Some(count) = coming.topics.get_mut(&topic) else { continue };
            *count -= 1;
            if *count == 0 {
                coming.topics.remove(&topic);
                shared.numbers.matching(&topic, |&number| coming.usage[number].topics -= 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tailwire_model::{MediaType, Pattern, Term, admission::Condition};

    use super::*;
    use crate::testing::Script;

    fn pattern(text: &str) -> Pattern {
        let Ok(Term::Pattern(pattern)) = Term::parse(text) else { panic!("{text} is no pattern") };
        pattern
    }

    fn group(names: &[&str]) -> Group {
        Group { drafts: drafts(names), key: None, condition: Condition::default() }
    }

    fn drafts(names: &[&str]) -> Vec<Draft> {
        let draft = |name: &&str| Draft::new(Topic::parse(name).unwrap(), MediaType::NONE, Bytes::new());
        names.iter().map(draft).collect()
    }

    /// Quotas over a store that has nothing.
    fn quotas(bytes: Option<u64>, topics: Option<u64>) -> (Quotas, Arc<Script>) {
        let store = Arc::new(Script::default());
        let of = |text| Quota { pattern: pattern(text), bytes, topics };
        (Quotas::new(vec![of("a/**"), of("*/x")], &*store), store)
    }

    #[test]
    fn bytes_that_are_on_their_way_count_until_they_are_there() {
        let each = drafts(&["a/x"])[0].cost() as u64;
        let (quotas, store) = quotas(Some(2 * each), None);
        let admit = |names: &[&str]| quotas.admit(&group(names), &*store);
        let one = admit(&["a/x"]).unwrap();
        assert!(admit(&["a/y", "a/z"]).is_err());
        let two = admit(&["a/y"]).unwrap();
        assert!(admit(&["a/x"]).is_err() && admit(&["b/y"; 100]).is_ok());
        let other = admit(&["b/x"]).unwrap();
        assert_eq!(admit(&["c/x"]).err().unwrap().pattern, pattern("*/x"));
        drop(two);
        assert!(admit(&["a/x"]).is_err() && admit(&["a/y"]).is_ok(), "it is in both");
        drop((one, other));
        assert!(admit(&["a/x", "b/y", "a/x"]).is_ok());
    }

    #[test]
    fn a_topic_begins_once() {
        let (quotas, store) = quotas(None, Some(2));
        let admit = |names: &[&str]| quotas.admit(&group(names), &*store);
        let one = admit(&["a/x", "a/x", "b/y", "a/x"]).unwrap();
        let again = admit(&["a/x"]).unwrap();
        assert!(admit(&["a/y", "a/z"]).is_err());
        let two = admit(&["a/y"]).unwrap();
        assert!(admit(&["a/z"]).is_err() && admit(&["a/x", "a/y"]).is_ok());
        drop(one);
        assert!(admit(&["a/z"]).is_err(), "another publish to it is on its way");
        drop(again);
        assert!(admit(&["a/z"]).is_ok());
        drop(two);
        assert!(admit(&["a/1", "a/2"]).is_ok() && admit(&["a/1", "a/2", "a/3"]).is_err());
    }
}
