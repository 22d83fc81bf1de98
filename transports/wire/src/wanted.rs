//! What a request is about, by its head alone: the action, and the topics as far as they are named there. A decision that
//! takes another's answer is so asked for once, before the request is looked at in full.

use tailwire_model::{Action, Term};

use crate::{options, path, query};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// One action on these terms.
    Terms(Action, Vec<Term>),
    /// One action, on topics that the head doesn't name.
    Unnamed(Action),
    /// Anything: a WebSocket, on which more can be asked.
    Everything,
}

/// What a request is about; nothing, where it is about no topic, or names none that can be.
pub fn wanted(method: &str, path: &str, query: Option<&str>, is_upgrade: bool) -> Option<Wanted> {
    let reads = matches!(method, "GET" | "HEAD" | "QUERY");
    let of = |action, term: Term| Some(Wanted::Terms(action, vec![term]));
    if let Some(raw) = path.strip_prefix("/topics/") {
        let term = path::term(raw).ok()?;
        return match method {
            _ if is_upgrade => Some(Wanted::Everything),
            "POST" => of(Action::Publish, term),
            "DELETE" => of(Action::Manage, term),
            _ => Some(read(vec![term])),
        };
    }
    if let Some(raw) = path.strip_prefix("/options/") {
        return of(Action::Manage, options::term(raw).ok()?);
    }
    if let Some(raw) = path.strip_prefix("/presence/") {
        return of(Action::Presence, path::term(raw).ok()?);
    }
    match path {
        "/stream" if is_upgrade => Some(Wanted::Everything),
        "/stream" if method == "POST" => Some(Wanted::Unnamed(Action::Publish)),
        // The rest of its topics is in its body.
        "/stream" if method == "QUERY" => Some(Wanted::Unnamed(Action::Subscribe)),
        "/stream" => Some(read(named(query)?)),
        "/topics" => Some(Wanted::Unnamed(Action::Subscribe)),
        "/options" => Some(Wanted::Unnamed(Action::Manage)),
        _ if path.starts_with("/messages/") && reads => Some(Wanted::Unnamed(Action::Subscribe)),
        _ if path.starts_with("/messages/") => Some(Wanted::Unnamed(Action::Manage)),
        _ => None,
    }
}

/// The topics of a query.
fn named(query: Option<&str>) -> Option<Vec<Term>> {
    let topics = query::pairs(query).filter(|(name, _)| name == "topic");
    topics.map(|(_, raw)| Term::parse(&query::decode(raw)?).ok()).collect()
}

fn read(terms: Vec<Term>) -> Wanted {
    let listened = if let [one] = terms.as_slice() { one.listened() } else { None };
    match listened {
        Some(term) => Wanted::Terms(Action::Presence, vec![term]),
        None => Wanted::Terms(Action::Subscribe, terms),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn terms(action: Action, names: &[&str]) -> Option<Wanted> {
        Some(Wanted::Terms(action, names.iter().map(|name| Term::parse(name).unwrap()).collect()))
    }

    #[test]
    fn a_head_says_what_is_wanted_of_which_topics() {
        let check = |method: &str, target: &str, expect: Option<Wanted>| {
            let (path, query) =
                target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            assert_eq!(wanted(method, path, query, false), expect, "{method} {target}");
        };
        use Action::{Manage, Presence, Publish, Subscribe};
        check("GET", "/topics/rooms/1", terms(Subscribe, &["rooms/1"]));
        check("HEAD", "/topics/rooms/%2A%2A", terms(Subscribe, &["rooms/**"]));
        check("POST", "/topics/r%C5%BE", terms(Publish, &["rž"]));
        check("DELETE", "/topics/a", terms(Manage, &["a"]));
        check("GET", "/stream?topic=a&last=1&topic=b%2F**", terms(Subscribe, &["a", "b/**"]));
        check("GET", "/topics/$presence/rooms/1", terms(Presence, &["rooms/1"]));
        check("GET", "/presence/rooms/*", terms(Presence, &["rooms/*"]));
        check("PUT", "/options/a", terms(Manage, &["a"]));
        check("POST", "/stream", Some(Wanted::Unnamed(Publish)));
        check("QUERY", "/stream", Some(Wanted::Unnamed(Subscribe)));
        check("GET", "/messages/x", Some(Wanted::Unnamed(Subscribe)));
        check("DELETE", "/messages/x", Some(Wanted::Unnamed(Manage)));
        check("GET", "/topics", Some(Wanted::Unnamed(Subscribe)));
        for (method, target) in
            [("GET", "/"), ("GET", "/healthz"), ("GET", "/topics/a//b"), ("GET", "/stream?topic=..")]
        {
            check(method, target, None);
        }
        assert_eq!(wanted("GET", "/stream", None, true), Some(Wanted::Everything));
        assert_eq!(wanted("GET", "/topics/a", None, true), Some(Wanted::Everything));
    }
}
