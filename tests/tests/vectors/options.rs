//! Checks of options: what clients set, and what they are told of it.

use serde_json::{Map, Value, json};
use tailwire_model::{Options, Rules, Term};
use tailwire_wire::options;

use crate::{encodings::body, requests::error, text};

/// The answer of a case: of a `list` the body; else the result of the body of a PUT on a `term`, under what is
/// `configured` for others.
pub(crate) fn options(case: &Value) -> Value {
    let configured = settings(&case["configured"]);
    if case.get("list").is_some() {
        let set = settings(&case["list"]);
        let all = Rules::new(configured, set);
        let entries: Vec<_> = all.iter().collect();
        let mut out = Vec::new();
        options::list(entries.iter().map(|(term, options)| (*term, options)), &mut out);
        return told(out);
    }
    let term = match options::term(text(case, "path")) {
        Ok(term) => term,
        Err(problem) => return error(&problem),
    };
    let content_type = case.get("type").map_or(Some("application/json"), Value::as_str);
    match options::parse(&term, content_type, &body(case)) {
        Ok(parsed) => answer(configured, &term, parsed),
        Err(problem) => error(&problem),
    }
}

/// The answer to a PUT; sent back it sets the same.
fn answer(configured: Vec<(Term, Options)>, term: &Term, set: Options) -> Value {
    let mut rules = Rules::new(configured, []);
    rules.change(term, set.clone()).unwrap();
    let rule = match term {
        Term::Topic(topic) => Some(rules.of(topic)),
        Term::Pattern(_) => None,
    };
    let mut out = Vec::new();
    options::body(term, &set, rule, &mut out);
    assert_eq!(options::parse(term, Some("application/json"), &out), Ok(set), "there and back");
    told(out)
}

/// As text, whose order of members counts.
fn told(out: Vec<u8>) -> Value {
    json!(String::from_utf8(out).expect("UTF-8 goes over the wire"))
}

/// Options by the raw path of their term.
fn settings(value: &Value) -> Vec<(Term, Options)> {
    let members = value.as_object().cloned().unwrap_or_else(Map::new);
    let parse = |(path, options): (String, Value)| {
        let term = options::term(&path).unwrap();
        let options = options::parse(&term, Some("application/json"), options.to_string().as_bytes());
        (term, options.unwrap())
    };
    members.into_iter().map(parse).collect()
}
