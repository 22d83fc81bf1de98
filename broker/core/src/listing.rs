//! The list of topics, as far as a principal may see it: hidden topics are passed over before a page is cut, so that a page
//! neither ends at one nor says that there is one.

use tailwire_model::{Filter, Term};

use crate::{log::TopicInfo, store::Store};

/// Names that are looked at before others have a turn.
const NAMES_PER_TURN: usize = 1000;

/// Names that stand together in byte order.
enum ListedNames<'a> {
    One(&'a str),
    /// All that begin so.
    Under(&'a str),
}

/// The topics that match `visible`, whose names begin with `prefix` and come after `from`: in byte order, at most `limit`.
pub(crate) async fn topics(
    store: &dyn Store,
    visible: &Filter,
    prefix: &str,
    from: Option<&str>,
    limit: usize,
) -> Vec<TopicInfo> {
    let mut found = Vec::new();
    for names in disjoint(visible) {
        let (own, is_one) = match names {
            ListedNames::One(name) => (name, true),
            ListedNames::Under(own) => (own, false),
        };
        if is_one && !own.starts_with(prefix) || !own.starts_with(prefix) && !prefix.starts_with(own) {
            continue;
        }
        let under = if own.len() > prefix.len() { own } else { prefix };
        let mut after = from.map(str::to_owned);
        loop {
            let asked = if is_one { 1 } else { NAMES_PER_TURN };
            let page = store.topics(under, after.as_deref(), asked);
            let is_last = is_one || page.len() < asked;
            after = page.last().map(|last| last.topic.as_str().to_owned());
            let seen = page.into_iter().filter(|info| match names {
                ListedNames::One(name) => info.topic.as_str() == name,
                ListedNames::Under(_) => visible.matches(&info.topic),
            });
            found.extend(seen.take(limit - found.len()));
            if found.len() >= limit {
                return found;
            }
            if is_last {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    found
}

/// Where the topics of a filter can be, in byte order and without overlap.
fn disjoint(filter: &Filter) -> Vec<ListedNames<'_>> {
    let mut all: Vec<_> = filter
        .terms()
        .iter()
        .map(|term| match term {
            Term::Topic(topic) => ListedNames::One(topic.as_str()),
            Term::Pattern(pattern) => ListedNames::Under(pattern.prefix()),
        })
        .collect();
    all.sort_by_key(|names| match names {
        ListedNames::Under(prefix) => (*prefix, false),
        ListedNames::One(name) => (*name, true),
    });
    let mut covered: Option<&str> = None;
    all.retain(|names| {
        let (ListedNames::One(name) | ListedNames::Under(name)) = names;
        if covered.is_some_and(|prefix| name.starts_with(prefix)) {
            return false;
        }
        if let ListedNames::Under(prefix) = names {
            covered = Some(prefix);
        }
        true
    });
    all
}
