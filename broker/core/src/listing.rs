//! The list of topics, as far as a principal may see it: hidden topics are passed over before a page is cut, so that a page
//! neither ends at one nor says that there is one. Names are gone through on the threads that read the log, some at a time: others
//! have their turns between them, and nobody who commits waits for more than one.

use tailwire_model::{Filter, Term, limits::LISTED_PER_TURN};

use crate::{error::ReadError, log::TopicInfo, shared::BrokerShared};

/// Names that stand together in byte order.
enum ListedNames<'a> {
    One(&'a str),
    /// All that begin so.
    Under(&'a str),
}

/// The topics that match `visible`, or all, whose names begin with `prefix` and come after `from`: in byte order, at most
/// `limit`.
pub(crate) async fn topics(
    shared: &BrokerShared,
    visible: Option<&Filter>,
    prefix: &str,
    from: Option<&str>,
    limit: usize,
) -> Result<Vec<TopicInfo>, ReadError> {
    let mut found = Vec::new();
    let parts = visible.map_or_else(|| vec![ListedNames::Under("")], disjoint);
    for names in parts {
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
            let asked = match visible {
                Some(_) if is_one => 1,
                Some(_) => LISTED_PER_TURN,
                None => LISTED_PER_TURN.min(limit - found.len()),
            };
            let (begin, last) = (under.to_owned(), after.take());
            let page = if is_one {
                // One look costs less than the way to another thread.
                shared.store.topics(&begin, last.as_deref(), asked)
            } else {
                shared.aside(move |store| store.topics(&begin, last.as_deref(), asked)).await?
            };
            let is_last = is_one || page.len() < asked;
            after = page.last().map(|last| last.topic.as_str().to_owned());
            let seen = page.into_iter().filter(|info| match names {
                ListedNames::One(name) => info.topic.as_str() == name,
                ListedNames::Under(_) => visible.is_none_or(|visible| visible.matches(&info.topic)),
            });
            found.extend(seen.take(limit - found.len()));
            if found.len() >= limit {
                return Ok(found);
            }
            if is_last {
                break;
            }
        }
    }
    Ok(found)
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
