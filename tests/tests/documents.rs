//! The documents against the code: paths that `docs/ARCHITECTURE.md` names, the problems and metrics of `docs/PROTOCOL.md`, and the
//! representations of the API's description.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is its report")]

#[path = "support/granting.rs"]
#[allow(dead_code, reason = "the suite of access uses the rest")]
mod granting;
#[path = "support/project.rs"]
mod project;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "the suite of access uses the rest")]
mod served;

use std::collections::{BTreeMap, BTreeSet};

use project::{quoted, read, root};
use serde_json::Value;
use served::Served;
use tailwire_wire::{Code, representation};

/// The part of a page below a heading, up to the next heading of any level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n#").next().unwrap_or_default()
}

/// The rows of a section's tables whose first cell is between backquotes.
fn rows(section: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn the_places_to_add_things_exist() {
    let page = read("docs/ARCHITECTURE.md");
    let folders = ["broker/", "clients/", "docs/", "server/", "storage/", "tests/", "transports/"];
    let is_path = |text: &&str| folders.iter().any(|folder| text.starts_with(folder));
    let paths: Vec<&str> = quoted(section(&page, "## Where to add things")).filter(is_path).collect();
    assert!(paths.len() > 20, "{paths:?}");
    let missing: Vec<_> = paths.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md names {missing:?}");
}

#[test]
fn the_problems_are_those_of_the_code() {
    let page = read("docs/PROTOCOL.md");
    let rows = rows(section(&page, "## Problems")).filter(|row| row.len() == 4);
    let documented: Vec<_> =
        rows.map(|row| (row[0].trim_matches('`').to_owned(), row[1].to_owned(), row[2].to_owned())).collect();
    let code = |code: &Code| (code.as_str().to_owned(), code.status().to_string(), code.title().to_owned());
    assert_eq!(documented.iter().cloned().collect::<BTreeSet<_>>(), Code::ALL.iter().map(code).collect());
    assert_eq!(documented.len(), Code::ALL.len(), "a code stands twice");
}

#[test]
fn the_representations_are_those_of_the_table() {
    let document: Value =
        serde_json::from_str(include_str!("../../transports/http/src/api/openapi.json")).unwrap();
    let listed = document["components"]["parameters"]["Format"]["schema"]["enum"].as_array().unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(listed, representation::TABLE.iter().map(|entry| entry.name).collect());
}

/// A family with a label is served from its first value on, so these may be missing in what a broker serves at first.
#[test]
fn the_metrics_are_those_that_are_served() {
    let page = read("docs/PROTOCOL.md");
    let mut documented = BTreeMap::new();
    for row in rows(section(&page, "## Operations")).filter(|row| row[0].starts_with("`tailwire_")) {
        let (name, has_labels) = match row[0].trim_matches('`').split_once('{') {
            Some((name, _)) => (name, true),
            None => (row[0].trim_matches('`'), false),
        };
        let kind = row.iter().find(|cell| ["counter", "gauge", "histogram", "info"].contains(*cell)).unwrap();
        // An info is a gauge in Prometheus' text format.
        let kind = if **kind == *"info" { "gauge" } else { kind };
        assert!(documented.insert(name.to_owned(), (kind, has_labels)).is_none(), "{name} stands twice");
    }

    let text = Served::start().metrics();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut missing: BTreeSet<String> = documented.keys().cloned().collect();
    for (name, kind) in types {
        let (expect, _) = documented.get(name).unwrap_or_else(|| panic!("docs/PROTOCOL.md lacks {name}"));
        assert_eq!(kind, *expect, "{name}");
        missing.remove(name);
    }
    missing.retain(|name| !documented[name].1);
    assert!(missing.is_empty(), "not served: {missing:?}");
}
