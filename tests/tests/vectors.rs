//! Runs the shared vectors: JSON files of cases, each an input and what must come of it (`expect`). Their shapes are
//! told in `vectors/README.md`; clients in other languages run the same files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "vectors/access.rs"]
mod access;
#[path = "vectors/encodings.rs"]
mod encodings;
#[path = "vectors/model.rs"]
mod model;
#[path = "vectors/options.rs"]
mod options;
#[path = "vectors/requests.rs"]
mod requests;
// Tokens are signed by keys that are made here: none is in the repository.
#[path = "../../broker/access/tests/support/signing.rs"]
mod signing;

use std::{fs, path::Path};

use serde_json::Value;

/// Turns a case into what came of it, for comparison with its `expect`.
type Check = fn(&Value) -> Value;

/// Runs every case of a file; a failure names the file and the case's index.
fn run(file: &str, check: Check) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(!cases.is_empty(), "{file} has no case");
    let failures = failures(file, &cases, check);
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn failures(file: &str, cases: &[Value], check: Check) -> Vec<String> {
    let run_case = |(index, case): (usize, &Value)| {
        let expect = case.get("expect").unwrap_or_else(|| panic!("{file}[{index}] has no `expect`"));
        let actual = std::panic::catch_unwind(|| check(case))
            .unwrap_or_else(|_| panic!("{file}[{index}]: the check panicked on {case}"));
        let note = case.get("why").map(|why| format!(" ({why})")).unwrap_or_default();
        (actual != *expect).then(|| format!("{file}[{index}]{note}:\n  expect {expect}\n  actual {actual}"))
    };
    cases.iter().enumerate().filter_map(run_case).collect()
}

/// A string that the case must have.
fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("`{name}` is a string in {case}"))
}

/// A whole number that the case must have.
fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap_or_else(|| panic!("`{name}` is a number in {case}"))
}

macro_rules! vectors {
    ($($name:ident: $file:literal, $check:path;)+) => {
        $(#[test]
        fn $name() {
            run($file, $check);
        })+

        /// The files that have a check.
        const FILES: &[&str] = &[$($file),+];
    };
}

vectors! {
    topics: "topics.json", model::topic;
    patterns: "patterns.json", model::pattern;
    intersections: "intersections.json", access::intersection;
    grants: "grants.json", access::grants;
    claims: "claims.json", access::claim;
    tokens: "tokens.json", access::verdict;
    cursors: "cursors.json", model::cursor;
    epochs: "epochs.json", model::epoch;
    gaps: "gaps.json", model::gap;
    admission: "admission.json", model::admission;
    retry: "retry.json", model::retry;
    lines: "lines.json", encodings::line;
    sse: "sse.json", encodings::sse;
    frames: "frames.json", encodings::frame;
    pages: "pages.json", encodings::page;
    paths: "paths.json", requests::path;
    negotiation: "negotiation.json", requests::negotiation;
    publish: "publish.json", requests::publish;
    requests: "requests.json", requests::request;
    options: "options.json", options::options;
}

#[test]
fn every_file_has_a_check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || FILES.contains(&&*name), "{name} is run by nobody");
    }
}

#[test]
fn a_wrong_case_is_reported() {
    let cases = [
        serde_json::json!({"name": "a", "expect": "ok"}),
        serde_json::json!({"name": "a", "expect": "empty", "why": "it is not"}),
    ];
    let failures = failures("file", &cases, model::topic);
    assert_eq!(failures, ["file[1] (\"it is not\"):\n  expect \"empty\"\n  actual \"ok\""]);
}
