//! Checks of what comes in over the wire: paths, queries, headers, bodies, a client's lines.

use serde_json::{Map, Value, json};
use tailwire_model::{Condition, Draft, Filter, Options, SizeBound, Term, Timestamp, Topic, limits};
use tailwire_wire::{
    Problem, Publish, QueryStart, Representation, Resource,
    negotiate::{SUBPROTOCOL, read_request},
    path,
    publish::{self as posts, Target},
    representation::{ATOM, JSON_FEED, SSE_ENVELOPE},
    request::{self, Id, Request},
};

use crate::{
    encodings::{body, hex},
    model::cursor_of,
    text,
};

pub(crate) fn path(case: &Value) -> Value {
    if let Some(name) = case.get("encode") {
        let mut out = String::new();
        path::encode(name.as_str().unwrap(), &mut out);
        assert_eq!(path::term(&out).unwrap().as_str(), name.as_str().unwrap(), "there and back");
        return json!(out);
    }
    let raw = text(case, "path");
    for (end, _) in raw.char_indices().take(PREFIXES_MAX) {
        // Every beginning of a peer's input gets an answer.
        let _ = path::term(&raw[..end]);
    }
    match path::term(raw) {
        Ok(term) => json!({"term": term.as_str()}),
        Err(problem) => error(&problem),
    }
}

/// How many prefixes of an input are tried beside it.
const PREFIXES_MAX: usize = 300;

/// An error as a vector tells it: its code, and where it has them the parameter and the line.
pub(crate) fn error(problem: &Problem) -> Value {
    let body: Value = serde_json::from_slice(&problem.body()).expect("JSON");
    assert_eq!(body["status"], problem.status());
    assert_eq!(body["code"], problem.code.as_str());
    let mut told = Map::from_iter([("error".to_owned(), body["code"].clone())]);
    for name in ["parameter", "line"] {
        if let Some(value) = body.get(name) {
            told.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(told)
}

/// When the requests come.
const NOW: u64 = 1_796_040_000_000;

fn start(start: QueryStart) -> Value {
    match start {
        QueryStart::Default => json!("default"),
        QueryStart::Earliest => json!("earliest"),
        QueryStart::Latest => json!("latest"),
        QueryStart::After(cursor) => json!(cursor.to_string()),
        QueryStart::Last(count) => json!({ "last": count }),
        QueryStart::Before(cursor) => json!({ "before": cursor.to_string() }),
        QueryStart::Since(moment) => json!({ "since": moment.time(Timestamp(NOW)).0 }),
    }
}

fn headers(case: &Value) -> Vec<(&str, &[u8])> {
    let pairs = case.get("headers").and_then(Value::as_array).into_iter().flatten();
    pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap().as_bytes())).collect()
}

/// Members that say what is usual are left out of what is told.
pub(crate) fn negotiation(case: &Value) -> Value {
    let resource = match case["topic"].as_str() {
        Some(topic) => Resource::Term(path::term(topic).unwrap()),
        None => Resource::Stream,
    };
    let (query, head) = (case["query"].as_str(), case["head"] == true);
    let request = match read_request(resource, query, head, headers(case), |name| {
        (name == SUBPROTOCOL).then_some(SUBPROTOCOL)
    }) {
        Ok(request) => request,
        Err(problem) => return error(&problem),
    };
    let representation = match request.representation {
        Representation::WebSocket { subprotocol: Some(_) } => "websocket, subprotocol",
        Representation::WebSocket { subprotocol: None } => "websocket",
        Representation::Stream(format) if *format == SSE_ENVELOPE => "sse, envelope",
        Representation::Stream(format) => format.name,
        Representation::Document { format, .. } if *format == ATOM => "atom",
        Representation::Document { format, .. } if *format == JSON_FEED => "jsonfeed",
        Representation::Document { wait_ms: 0, .. } => "page",
        Representation::Document { .. } => "long-poll",
        Representation::Raw { .. } => "raw",
    };
    let mut told = json!({"as": representation, "start": start(request.start)});
    if request.representation.wait_ms() > 0 {
        told["wait_ms"] = json!(request.representation.wait_ms());
    }
    if request.varies_by_accept {
        told["varies"] = json!(true);
    }
    if request.limit_in_url {
        told["limit"] = json!(request.limit);
    } else {
        assert_eq!(request.limit, limits::PAGE_MESSAGES_DEFAULT);
    }
    if let Some(gap) = request.gap {
        told["gap"] = json!(gap.to_string());
    }
    if let Some(bound) = request.bound {
        told["bound"] = json!([bound.bytes(), bound.depth()]);
    }
    if let Some(held) = case.get("held") {
        let held = cursor_of(held);
        told["not_modified"] = json!(request.if_none_match.is_some_and(|tags| tags.matches(held)));
    }
    if let Some(end) = request.archive {
        told["archive"] = json!(end.to_string());
    }
    if let Some(name) = request.coding.name() {
        told["coding"] = json!(name);
    }
    if let Some(base) = request.delta_base {
        told["delta_base"] = json!(base.to_string());
    }
    if case["topic"].is_null() {
        told["topics"] = request.filter.terms().iter().map(Term::as_str).collect();
    }
    told
}

fn published(publish: &Publish, expect: &Value) -> Value {
    let mut told = json!({"batch": publish.batch});
    told["messages"] = publish.drafts.iter().map(draft).collect();
    if let Some(key) = &publish.idempotency_key {
        told["idempotency_key"] = json!(key);
    }
    match publish.condition {
        Condition::None => {}
        Condition::NothingAfter(cursor) => told["if_match"] = json!(cursor.to_string()),
        Condition::NeverWritten => told["if_none_match"] = json!("*"),
    }
    if expect.get("fingerprint").is_some() {
        told["fingerprint"] = json!(hex(&publish.fingerprint().0));
    }
    told
}

fn draft(draft: &Draft) -> Value {
    let mut told = json!({"topic": draft.topic.as_str()});
    if let Some(media_type) = draft.media_type.as_str() {
        told["type"] = json!(media_type);
    }
    match std::str::from_utf8(&draft.body) {
        Ok(body) => told["body"] = json!(body),
        Err(_) => told["body_hex"] = json!(hex(&draft.body)),
    }
    let extras = draft.extras.as_deref().cloned().unwrap_or_default();
    if let Some(key) = extras.key {
        told["key"] = json!(key);
    }
    if let Some(max_age_ms) = extras.max_age_ms {
        told["max_age_ms"] = json!(max_age_ms);
    }
    if let Some(event) = extras.event {
        told["event"] = json!(event);
    }
    if !extras.headers.is_empty() {
        told["headers"] = json!(extras.headers);
    }
    told
}

pub(crate) fn publish(case: &Value) -> Value {
    let target = match case["topic"].as_str() {
        Some(topic) => Target::Topic(Topic::parse(topic).unwrap()),
        None => Target::Stream,
    };
    match posts::parse(target, case["query"].as_str(), headers(case), body(case).into()) {
        Ok(publish) => published(&publish, &case["expect"]),
        Err(problem) => error(&problem),
    }
}

pub(crate) fn request(case: &Value) -> Value {
    let depth = case["times"].as_u64().unwrap_or(1) as usize;
    // `~` stands for a text that is repeated, where a case is about length.
    let line = text(case, "line").replace('~', &case["repeat"].as_str().unwrap_or("~").repeat(depth));
    for (end, _) in line.char_indices().take(PREFIXES_MAX) {
        // Every beginning of a peer's input gets an answer.
        let _ = request::parse(&line[..end]);
    }
    let parsed = match request::parse(&line) {
        Ok(parsed) => parsed,
        Err(failed) => {
            let mut told = error(&failed.problem);
            told["id"] = json!(failed.id.as_ref().map(Id::as_str));
            return told;
        }
    };
    let terms = |filter: &Filter| filter.terms().iter().map(Term::as_str).collect::<Value>();
    let mut told = match &parsed.request {
        Request::Subscribe(ask) => {
            json!({
                "subscribe": terms(&ask.filter), "start": start(ask.start), "gap": ask.gap.map(|gap| gap.to_string()),
                "bound": ask.bound.map(SizeBound::bytes),
            })
        }
        Request::Unsubscribe { sub } => json!({"unsubscribe": sub.as_str()}),
        Request::Publish(publish) => json!({"publish": published(publish, &case["expect"]["publish"])}),
        Request::Page(ask) => json!({
            "page": terms(&ask.filter), "start": start(ask.start), "gap": ask.gap.map(|gap| gap.to_string()),
            "limit": ask.limit, "wait_ms": ask.wait_ms, "bound": ask.bound.map(SizeBound::bytes),
        }),
        Request::Authenticate { token } => json!({"authenticate": token}),
        Request::Delete { topic, key } => json!({"delete": topic.as_str(), "key": key}),
        Request::DeleteMessage { cursor } => json!({"delete_message": cursor.to_string()}),
        Request::Topics(ask) => json!({"topics": ask.prefix, "from": ask.from, "limit": ask.limit}),
        Request::Message { cursor } => json!({"message": cursor.to_string()}),
        Request::Options { term } => json!({"options": term.as_ref().map_or("all", Term::as_str)}),
        Request::SetOptions { term, options } => json!({"set_options": set_options(term, options)}),
        Request::DeleteOptions { term } => json!({"delete_options": term.as_str()}),
    };
    if let Value::Object(members) = &mut told {
        members.retain(|_, value| !value.is_null());
    }
    told["id"] = json!(parsed.id.as_str());
    told
}

fn set_options(term: &Term, options: &Options) -> Value {
    let mut out = Vec::new();
    tailwire_wire::options::body(term, options, None, &mut out);
    serde_json::from_slice(&out).expect("JSON")
}
