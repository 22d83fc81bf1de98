//! Holds the description of the HTTP API to the code: its problem codes, its bounds, and that it is sound in itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is its report")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tailwire_model::limits;
use tailwire_wire::Code;

const DOCUMENT: &str = include_str!("../../transports/http/src/api/openapi.json");

/// The members of a path item that are operations.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Keywords of schemas that bound something, and those whose number is a default.
const BOUNDS: [&str; 9] = [
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "default",
];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Calls `visit` with every value of the document and the pointer to it (RFC 6901).
fn walk<'a>(value: &'a Value, pointer: &str, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(pointer, value);
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                walk(member, &format!("{pointer}/{name}"), visit);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                walk(element, &format!("{pointer}/{index}"), visit);
            }
        }
        _ => {}
    }
}

/// Follows a value's `$ref`, if it is one.
fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(target) = value.get("$ref") {
        let target = target.as_str().unwrap();
        let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{target} is not of this document"));
        value = document.pointer(pointer).unwrap_or_else(|| panic!("{target} is nothing"));
    }
    value
}

/// Every operation: its method and path, and itself.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if METHODS.contains(&method.as_str()) {
                found.push((format!("{method} {path}"), operation));
            }
        }
    }
    found
}

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_version_is_the_workspaces() {
    assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_problem_codes_are_those_of_the_code() {
    let document = document();
    let listed = document["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    let listed: Vec<_> = listed.iter().map(|code| code.as_str().unwrap()).collect();
    let unique: BTreeSet<_> = listed.iter().copied().collect();
    assert_eq!(listed.len(), unique.len(), "a code stands twice");
    assert_eq!(unique, Code::ALL.iter().map(|code| code.as_str()).collect());
}

#[test]
fn a_response_names_the_codes_of_its_status() {
    let document = document();
    let codes: BTreeMap<_, _> = Code::ALL.iter().map(|code| (code.as_str(), code)).collect();
    for (name, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let description =
                response.get("description").unwrap_or(&resolve(&document, response)["description"]);
            let mut known = 0;
            for code in quoted(description.as_str().unwrap()).filter_map(|word| codes.get(word)) {
                known += 1;
                assert_eq!(code.status().to_string(), *status, "{name}: {}", code.as_str());
            }
            let is_problem =
                resolve(&document, response)["content"].get("application/problem+json").is_some();
            assert_eq!(known > 0, is_problem, "{name}: {status} names the codes of its problem");
        }
    }
}

#[test]
fn an_example_of_a_problem_is_as_the_broker_words_it() {
    let document = document();
    let mut checked = 0;
    walk(&document["components"], "", &mut |pointer, value| {
        let Some(example) = value.pointer("/application~1problem+json/example") else { return };
        let code = Code::ALL.iter().find(|code| example["code"] == code.as_str());
        let code = code.unwrap_or_else(|| panic!("{pointer}: no such code"));
        assert_eq!(example["title"], code.title(), "{pointer}");
        assert_eq!(example["status"], code.status(), "{pointer}");
        checked += 1;
    });
    assert!(checked > 0);
}

#[test]
fn every_reference_resolves() {
    let document = document();
    let mut used = BTreeSet::new();
    walk(&document, "", &mut |pointer, value| {
        let is_mapping = pointer.contains("/discriminator/mapping/");
        if let Some(target) = value.get("$ref").or_else(|| is_mapping.then_some(value)) {
            let target = target.as_str().unwrap_or_else(|| panic!("{pointer} is no string"));
            resolve(&document, &json!({ "$ref": target }));
            used.insert(target);
        }
    });
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let target = format!("#/components/{kind}/{name}");
            assert!(used.contains(&*target), "nothing refers to {target}");
        }
    }
}

#[test]
fn every_operation_has_a_name_and_says_what_it_answers() {
    let document = document();
    let mut names = BTreeSet::new();
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no operationId"));
        assert!(names.insert(id), "{id} stands twice");
        let own = operation["tags"].as_array().unwrap();
        assert!(!own.is_empty() && own.iter().all(|tag| tags.contains(&tag)), "{name} has unknown tags");
        let mut schemas = 0;
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = resolve(&document, response);
            assert!(response["description"].is_string(), "{name}: {status} has no description");
            let content = response.get("content").map(|content| content.as_object().unwrap());
            let bodiless = ["101", "204", "304"].contains(&status.as_str());
            assert_eq!(content.is_none(), bodiless, "{name}: {status} has content, where it has a body");
            for (media_type, content) in content.into_iter().flatten() {
                assert!(content["schema"].is_object(), "{name}: {status} {media_type} has no schema");
                schemas += 1;
            }
        }
        assert!(schemas > 0, "{name} has no response with a schema");
    }
    assert!(!names.is_empty());
}

#[test]
fn every_parameter_of_a_path_is_told() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        let meant: BTreeSet<_> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let parameters = item.get("parameters").and_then(Value::as_array).into_iter().flatten();
        let parameters = parameters.map(|parameter| resolve(&document, parameter));
        let told = parameters.filter(|parameter| parameter["in"] == "path" && parameter["required"] == true);
        assert_eq!(told.map(|parameter| parameter["name"].as_str().unwrap()).collect::<BTreeSet<_>>(), meant);
    }
}

/// A bound that is not listed here fails the test, so that none goes unchecked.
#[test]
fn bounds_are_those_of_the_broker() {
    let parameters = [
        ("Topics/schema/maxItems", limits::FILTER_TERMS_MAX),
        ("Last/schema/minimum", 1),
        ("Last/schema/maximum", limits::LAST_MAX),
        ("Limit/schema/minimum", 1),
        ("Limit/schema/maximum", limits::PAGE_MESSAGES_MAX),
        ("Limit/schema/default", limits::PAGE_MESSAGES_DEFAULT),
        ("Wait/schema/minimum", 0),
        ("Wait/schema/default", 0),
        ("MaxBytes/schema/minimum", limits::SIZE_BOUND_MIN as usize),
        ("TopicsLimit/schema/minimum", 1),
        ("TopicsLimit/schema/maximum", limits::TOPICS_PAGE_MAX),
        ("TopicsLimit/schema/default", limits::TOPICS_PAGE_DEFAULT),
    ];
    let schemas = [
        ("Topic/minLength", 1),
        ("Topic/maxLength", limits::TOPIC_BYTES_MAX),
        ("Term/minLength", 1),
        ("Term/maxLength", limits::TOPIC_BYTES_MAX),
        ("Event/minLength", 1),
        ("Event/maxLength", limits::EVENT_BYTES_MAX),
        ("Key/minLength", 1),
        ("Key/maxLength", limits::MESSAGE_KEY_BYTES_MAX),
        ("Headers/minProperties", 1),
        ("Headers/maxProperties", limits::HEADERS_MAX),
        ("MediaType/maxLength", limits::MEDIA_TYPE_BYTES_MAX),
        ("Message/properties/size/minimum", 0),
        ("Page/properties/messages/maxItems", limits::PAGE_MESSAGES_MAX),
        ("Page/properties/retry_after_ms/minimum", 0),
        ("Receipts/properties/receipts/minItems", 1),
        ("Receipts/properties/receipts/maxItems", limits::BATCH_MESSAGES_MAX),
        ("BatchMessage/properties/headers/maxProperties", limits::HEADERS_MAX),
        ("TopicList/properties/topics/maxItems", limits::TOPICS_PAGE_MAX),
        ("TopicEntry/properties/messages/minimum", 0),
        ("MaxAge/minimum", 1),
        ("MaxAge/maximum", limits::OPTION_MAX as usize),
        ("Bound/minimum", 1),
        ("Bound/maximum", limits::OPTION_MAX as usize),
        // Those that clients set, and those of the settings file.
        ("OptionsList/properties/options/maxItems", 2 * limits::OPTIONS_MAX),
        ("ByeLine/properties/retry_after_ms/minimum", 0),
        ("Problem/properties/status/minimum", 400),
        ("Problem/properties/status/maximum", 599),
        ("Problem/properties/retry_after_ms/minimum", 0),
        ("Problem/properties/line/minimum", 1),
    ];
    let mut expect = BTreeMap::from([("/components/headers/RetryAfter/schema/minimum".to_owned(), 0)]);
    expect.extend(parameters.map(|(at, bound)| (format!("/components/parameters/{at}"), bound as u64)));
    expect.extend(schemas.map(|(at, bound)| (format!("/components/schemas/{at}"), bound as u64)));

    let document = document();
    let mut actual = BTreeMap::new();
    walk(&document, "", &mut |pointer, value| {
        let keyword = pointer.rsplit('/').next().unwrap_or_default();
        if let Some(bound) = value.as_u64().filter(|_| BOUNDS.contains(&keyword)) {
            actual.insert(pointer.to_owned(), bound);
        }
    });
    assert_eq!(actual, expect);
}

#[test]
fn limits_in_words_are_those_of_the_broker() {
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    let (message, batch) = (mib(limits::MESSAGE_BYTES_MAX), mib(limits::BATCH_BYTES_MAX));
    let messages = limits::BATCH_MESSAGES_MAX;
    let head = limits::REQUEST_HEAD_BYTES_MAX >> 10;
    let wait = limits::WAIT_MS_MAX / 1000;
    let silence = format!("after {} s of silence", limits::HEARTBEAT_MS / 1000);
    let headers = format!("at most {}, of {} bytes", limits::HEADERS_MAX, limits::HEADERS_BYTES_MAX);
    let told = [
        ("/info", format!("beyond {head} KiB or {} headers", limits::REQUEST_HEADERS_MAX)),
        ("/paths/~1topics~1{topic}/post", headers),
        ("/paths/~1topics~1{topic}/post/requestBody", format!("At most {message}, may")),
        ("/paths/~1topics~1{topic}/post/requestBody", format!("at most {batch} and {messages} messages")),
        ("/paths/~1stream/post/requestBody", format!("At most {batch} and {messages} messages")),
        ("/paths/~1stream/post/requestBody", format!("at most {message}.")),
        ("/paths/~1options~1{topic}/put/requestBody", format!("At most {} bytes", limits::OPTIONS_BYTES_MAX)),
        (
            "/components/schemas/Options/properties/durability",
            format!("within {} ms", limits::RELAXED_FLUSH_MS),
        ),
        ("/paths/~1options~1{topic}/put/responses/429", format!("for {} topics", limits::OPTIONS_MAX)),
        (
            "/components/schemas/Options/properties/durability",
            format!("newest {} of", mib(limits::RING_BYTES_MAX)),
        ),
        ("/components/parameters/Wait", format!("over {wait} is cut to {wait}.")),
        ("/components/parameters/IdempotencyKey", format!("1 to {} ", limits::IDEMPOTENCY_KEY_BYTES_MAX)),
        (
            "/components/parameters/IdempotencyKey",
            format!("For {} minutes", limits::IDEMPOTENCY_WINDOW_MS / 60_000),
        ),
        ("/components/headers/CacheControl", format!("max-age={},", limits::CACHE_MS_MAX / 1000)),
        ("/components/headers/PreferenceApplied", format!("at most {wait} s")),
        ("/components/responses/Read/content/application~1x-ndjson/schema", silence.clone()),
        ("/components/schemas/EventStream", silence),
        ("/components/schemas/Topic", format!("1 to {} bytes", limits::TOPIC_BYTES_MAX)),
        ("/components/schemas/Term", format!("At most {} bytes", limits::TOPIC_BYTES_MAX)),
        ("/components/schemas/Key", format!("At most {} bytes", limits::MESSAGE_KEY_BYTES_MAX)),
        ("/components/schemas/Headers", format!("at most {} bytes", limits::HEADERS_BYTES_MAX)),
        (
            "/components/schemas/Page/properties/messages",
            format!("at most {} of bodies", mib(limits::PAGE_BYTES_MAX)),
        ),
    ];
    let document = document();
    for (pointer, words) in told {
        let described = document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is nothing"));
        let description =
            described["description"].as_str().unwrap_or_else(|| panic!("{pointer} is not told"));
        assert!(description.contains(&words), "{pointer} does not say `{words}`: {description}");
    }
}
