//! Names that are nearly one of ours. A misspelt parameter that was ignored would answer another question than was asked.

use crate::problem::{Code, Problem};

/// Parameters of some request, with the request.
const KNOWN: [(&str, &str); 14] = [
    ("after", "reading"),
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
const SYNONYMS: [(&str, &str); 10] = [
    ("since", "after"),
    ("start", "after"),
    ("offset", "after"),
    ("cursor", "after"),
    ("count", "limit"),
    ("max", "limit"),
    ("timeout", "wait"),
    ("channel", "topic"),
    ("channels", "topic"),
    ("topics", "topic"),
];

/// Shorter names are near to too many others.
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
        let detail = format!("`{name}` is no parameter: it is the header `{header}`");
        return Err(Problem::parameter(Code::ParameterInvalid, name.to_owned(), detail));
    }
    let synonym = SYNONYMS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    let Some(meant) = synonym.or_else(|| nearest(name, KNOWN.iter().map(|(known, _)| *known))) else {
        return Ok(());
    };
    let mut problem = if own.contains(&meant) {
        Problem::detailed(Code::ParameterInvalid, format!("there is no `{name}`; `{meant}` is meant?"))
    } else {
        let detail =
            format!("there is no `{name}`, and `{meant}` is no parameter here; there are {}", list(own));
        Problem::detailed(Code::ParameterInvalid, detail)
    };
    problem.members_mut().parameter = Some(name.to_owned().into());
    Err(problem)
}

/// The name that differs least from one, if that is little: one typing error, or two in a long name.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() < LENGTH_MIN || name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let distances =
        names.into_iter().map(|own| (strsim::osa_distance(&lower, &own.to_ascii_lowercase()), own));
    let (distance, own) = distances.min_by_key(|(distance, _)| *distance)?;
    (own.len() >= LENGTH_MIN && distance <= if own.len() > 6 { 2 } else { 1 }).then_some(own)
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
        ] {
            assert!(told(name).is_some_and(|told| told.contains(word)), "{name}: {:?}", told(name));
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
