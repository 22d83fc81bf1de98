//! Names that are nearly one of ours. A misspelt parameter that was ignored would answer another question than was asked.

use crate::problem::{Code, Problem};

/// Parameters of some request, with the request.
const KNOWN: [(&str, &str); 16] = [
    ("after", "reading"),
    ("before", "reading"),
    ("last", "reading"),
    ("gap", "reading"),
    ("limit", "reading"),
    ("format", "reading"),
    ("wait", "reading"),
    ("envelope", "reading"),
    ("max_bytes", "reading"),
    ("lastEventId", "reading by SSE"),
    ("topic", "`/stream`"),
    ("event", "publishing"),
    ("key", "publishing"),
    ("max_age", "publishing"),
    ("prefix", "the list of topics"),
    ("from", "the list of topics"),
];

/// Names of headers: a client that writes one as a parameter would take it for done.
const HEADERS: [(&str, &str); 4] = [
    ("idempotencykey", "Idempotency-Key"),
    ("ifmatch", "If-Match"),
    ("ifnonematch", "If-None-Match"),
    ("contenttype", "Content-Type"),
];

/// A name of it elsewhere.
const SYNONYMS: [(&str, &str); 12] = [
    ("since", "after"),
    ("start", "after"),
    ("offset", "after"),
    ("cursor", "after"),
    ("until", "before"),
    ("ttl", "max_age"),
    ("count", "limit"),
    ("max", "limit"),
    ("timeout", "wait"),
    ("channel", "topic"),
    ("channels", "topic"),
    ("topics", "topic"),
];

/// Names of members elsewhere, with ours.
const MEMBER_SYNONYMS: [(&str, &str); 5] = [
    ("body", "data"),
    ("payload", "data"),
    ("contenttype", "type"),
    ("subscription", "sub"),
    ("lasteventid", "after"),
];

/// The members of all objects and lines that clients send.
const MEMBERS: [&str; 26] = [
    "topic",
    "data",
    "type",
    "encoding",
    "key",
    "event",
    "headers",
    "max_age",
    "messages",
    "idempotency_key",
    "if_match",
    "if_none_match",
    "after",
    "before",
    "last",
    "gap",
    "limit",
    "wait",
    "max_bytes",
    "prefix",
    "from",
    "sub",
    "cursor",
    "token",
    "format",
    "envelope",
];

/// Shorter names are near to too many others, but where just letters are exchanged or it is a plural.
const LENGTH_MIN: usize = 4;

/// Refuses a parameter that isn't one of `own`, but another request's, or nearly one of ours. Any other is ignored, since
/// proxies and analytics add their own.
pub(crate) fn check(name: &str, own: &[&str]) -> Result<(), Problem> {
    let meant = |(meant, _): &&(&str, &str)| name.eq_ignore_ascii_case(meant);
    if let Some((other, of)) = KNOWN.iter().find(meant).filter(|(other, _)| !own.contains(other)) {
        let detail = format!("`{name}` is a parameter of {of}; here there are {}", list(own));
        return Err(Problem::parameter(Code::ParameterInvalid, *other, detail));
    }
    if let Some((_, header)) = HEADERS.iter().find(|(words, _)| is_spelt(name, words)) {
        return Err(refused(name, format!("`{name}` is no parameter: it is the header `{header}`")));
    }
    // Some write a list so.
    let word = name.split('[').next().unwrap_or(name);
    let synonym = SYNONYMS.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours);
    match synonym.or_else(|| nearest(word, KNOWN.iter().map(|(known, _)| *known))) {
        None => Ok(()),
        Some(meant) if own.contains(&meant) => {
            Err(refused(name, format!("there is no `{name}`; `{meant}` is meant?")))
        }
        Some(meant) => {
            let detail =
                format!("there is no `{name}`, and `{meant}` is no parameter here; there are {}", list(own));
            Err(refused(name, detail))
        }
    }
}

/// Refuses a member of an object or line that isn't one of `own`, but another's, or nearly one of ours. Any other is ignored,
/// so that clients may be newer than the broker.
pub(crate) fn check_member(name: &str, own: &[&str]) -> Result<(), Problem> {
    if own.contains(&name) {
        return Ok(());
    }
    let synonyms = SYNONYMS.iter().chain(&MEMBER_SYNONYMS);
    let synonym = synonyms.filter(|(_, ours)| own.contains(ours)).find(|(theirs, _)| is_spelt(name, theirs));
    let alike = own.iter().find(|own| is_spelt(name, &own.replace('_', "")));
    let meant = synonym.map(|(_, ours)| *ours).or(alike.copied());
    let meant = meant.or_else(|| nearest(name, own.iter().copied()).filter(|_| !MEMBERS.contains(&name)));
    if let Some(meant) = meant {
        return Err(refused(name, format!("there is no `{name}`; `{meant}` is meant?")));
    }
    if MEMBERS.contains(&name) || nearest(name, MEMBERS).is_some() {
        return Err(refused(name, format!("`{name}` is no member here; there are {}", list(own))));
    }
    Ok(())
}

/// The refusal of a name.
fn refused(name: &str, detail: String) -> Problem {
    Problem::parameter(Code::ParameterInvalid, name.to_owned(), detail)
}

/// The name that differs least from one, if that is little: one typing error, or two in a long name.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let distances =
        names.into_iter().map(|own| (strsim::osa_distance(&lower, &own.to_ascii_lowercase()), own));
    let (distance, own) = distances.min_by_key(|(distance, _)| *distance)?;
    let is_near = if own.len() < LENGTH_MIN || name.len() < LENGTH_MIN {
        distance == 0 || is_anagram(&lower, own) || lower.strip_suffix('s') == Some(own)
    } else {
        distance <= if own.len() > 6 { 2 } else { 1 }
    };
    is_near.then_some(own)
}

/// Whether a name of at least three letters has the letters of another, one of them elsewhere.
fn is_anagram(name: &str, own: &str) -> bool {
    name.len() == own.len() && name.len() > 2 && strsim::osa_distance(name, own) == 1 && {
        let sorted = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.sort_unstable();
            bytes
        };
        sorted(name) == sorted(own)
    }
}

/// Whether a name is written of these letters, however its words are parted.
fn is_spelt(name: &str, letters: &str) -> bool {
    let own = name.bytes().filter(|byte| !matches!(byte, b'-' | b'_')).map(|byte| byte.to_ascii_lowercase());
    own.eq(letters.bytes())
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: [&str; 3] = ["after", "limit", "wait"];

    fn told(name: &str) -> Option<String> {
        check(name, &READ).err().map(|problem| String::from_utf8_lossy(&problem.body()).into_owned())
    }

    #[test]
    fn what_is_nearly_ours_is_told() {
        for (name, word) in [
            ("key", "publishing"),
            ("Key", "publishing"),
            ("max_age", "publishing"),
            ("idempotency_key", "header `Idempotency-Key`"),
            ("If-Match", "header `If-Match`"),
            ("from", "list of topics"),
            ("limt", "`limit` is meant"),
            ("Limit", "`limit` is meant"),
            ("aftr", "`after` is meant"),
            ("fater", "`after` is meant"),
            ("since", "`after` is meant"),
            ("waits", "`wait` is meant"),
            ("envelop", "`envelope` is no parameter here"),
            ("kye", "`key` is no parameter here"),
            ("gaps", "`gap` is no parameter here"),
            ("limit[]", "`limit` is meant"),
        ] {
            assert!(told(name).is_some_and(|told| told.contains(word)), "{name}: {:?}", told(name));
        }
    }

    #[test]
    fn short_names_are_told_too() {
        for name in ["Key", "KEY", "kye", "keys", "key[]"] {
            let told = check(name, &["event", "key"]).err().map(|problem| problem.body());
            assert!(
                told.is_some_and(|told| told.windows(14).any(|text| text == b"`key` is meant")),
                "{name}"
            );
        }
    }

    #[test]
    fn members_that_are_nearly_ours_are_told() {
        const SUBSCRIBE: [&str; 4] = ["topic", "after", "last", "max_bytes"];
        const PUBLISH: [&str; 7] = ["topic", "data", "type", "key", "idempotency_key", "if_match", "cursor"];
        let told = |name: &str, own: &[&str]| {
            let problem = check_member(name, own).err()?;
            Some(String::from_utf8_lossy(&problem.body()).into_owned())
        };
        for (name, own, word) in [
            ("since", &SUBSCRIBE[..], "`after` is meant"),
            ("cursor", &SUBSCRIBE, "`after` is meant"),
            ("lastEventId", &SUBSCRIBE, "`after` is meant"),
            ("maxBytes", &SUBSCRIBE, "`max_bytes` is meant"),
            ("topics", &SUBSCRIBE, "`topic` is meant"),
            ("limit", &SUBSCRIBE, "`limit` is no member here"),
            ("limt", &SUBSCRIBE, "`limt` is no member here"),
            ("key", &SUBSCRIBE, "`key` is no member here"),
            ("kye", &PUBLISH, "`key` is meant"),
            ("idempotencyKey", &PUBLISH, "`idempotency_key` is meant"),
            ("Idempotency-Key", &PUBLISH, "`idempotency_key` is meant"),
            ("ifMatch", &PUBLISH, "`if_match` is meant"),
            ("content_type", &PUBLISH, "`type` is meant"),
            ("payload", &PUBLISH, "`data` is meant"),
            ("after", &PUBLISH, "`after` is no member here"),
        ] {
            assert!(told(name, own).is_some_and(|told| told.contains(word)), "{name}: {:?}", told(name, own));
        }
        for name in ["topic", "cursor", "id", "kind", "size", "href", "omitted", "trace", "x", "user", ""] {
            assert_eq!(told(name, &PUBLISH), None, "{name}");
        }
    }

    #[test]
    fn what_proxies_and_analytics_add_is_not_ours() {
        assert!(check("utm_source", &[]).is_ok());
        assert!(check("after", &[]).is_err() && check("limt", &[]).is_err());
        for name in
            ["_", "t", "v", "cb", "utm_source", "fbclid", "gclid", "ref", "nocache", "ticket", "token", "sid"]
        {
            assert_eq!(told(name), None, "{name}");
        }
    }
}
