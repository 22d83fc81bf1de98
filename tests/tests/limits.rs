//! `docs/LIMITS.md` has every bound of `limits.rs`, with its value, and no other; and the codes and settings that it names exist.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "support/project.rs"]
mod project;

use std::collections::BTreeMap;

use project::{quoted, read};
use tailwire_wire::Code;

/// The value of an expression of `limits.rs`: numbers, other constants, products and shifts.
fn value(expression: &str, known: &BTreeMap<String, f64>) -> f64 {
    let expression = expression.trim().trim_start_matches('(').trim_end_matches(')');
    if let Some((left, right)) = expression.split_once(" - ") {
        return value(left, known) - value(right, known);
    }
    if let Some((left, right)) = expression.split_once(" << ") {
        return value(left, known) * 2f64.powf(value(right, known));
    }
    if expression.contains(" * ") {
        return expression.split(" * ").map(|factor| value(factor, known)).product();
    }
    let number = expression.replace('_', "").parse();
    number.unwrap_or_else(|_| *known.get(expression).expect("a number or an earlier constant"))
}

fn constants() -> BTreeMap<String, f64> {
    let (text, mut known) = (read("broker/model/src/limits.rs"), BTreeMap::new());
    for line in text.lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let (name, rest) = line.split_once(": ").expect("a constant has a type");
        let (_, expression) = rest.split_once(" = ").expect("and a value");
        let value = value(expression.trim_end_matches(';'), &known);
        known.insert(name.to_owned(), value);
    }
    known
}

/// A value as the page has it: bytes, milliseconds, or a number.
fn shown(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: f64 = number.replace(',', "").parse().expect("a value begins with a number");
    let factor = match unit {
        "" | "ms" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "s" => 1000.0,
        "min" => 60.0 * 1000.0,
        "h" => 3600.0 * 1000.0,
        other => panic!("{other} is no unit"),
    };
    number * factor
}

/// The rows of the page's tables: bound, value, beyond it, setting.
fn rows(page: &str) -> Vec<[String; 4]> {
    let is_row = |line: &&str| line.starts_with("| `");
    let cells = |line: &str| -> [String; 4] {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{line}");
        [cells[0], cells[1], cells[3], cells[4]].map(str::to_owned)
    };
    page.lines().filter(is_row).map(cells).collect()
}

#[test]
fn the_page_has_every_bound_and_its_value() {
    let constants = constants();
    let mut documented = BTreeMap::new();
    for [name, value, ..] in rows(&read("docs/LIMITS.md")) {
        let name = name.trim_matches('`').to_owned();
        let constant = constants.get(&name).unwrap_or_else(|| panic!("{name} is no constant"));
        assert!((shown(&value) - constant).abs() < 1e-9, "{name} is {constant}, and the page says {value}");
        assert!(documented.insert(name.clone(), ()).is_none(), "{name} stands there twice");
    }
    let missing: Vec<&String> = constants.keys().filter(|name| !documented.contains_key(*name)).collect();
    assert!(missing.is_empty(), "docs/LIMITS.md lacks {missing:?}");
}

#[test]
fn refusals_and_settings_of_the_page_exist() {
    let settings = read("server/src/config/args.rs");
    // Words of the page that are neither codes nor settings.
    let others = ["more", "next", "slow", "retention"];
    for [name, _, beyond, setting] in rows(&read("docs/LIMITS.md")) {
        for code in quoted(&beyond).filter(|word| !others.contains(word)) {
            assert!(Code::ALL.iter().any(|own| own.as_str() == code), "{name}: {code} is no code");
        }
        for key in quoted(&setting) {
            let is_explained = settings.contains(&format!("\n    {key} = "));
            assert!(is_explained, "{name}: {key} is not in the notes of `tailwire serve --help`");
        }
    }
}

#[test]
fn values_are_read_as_they_are_written() {
    let known = BTreeMap::from([("A".to_owned(), 3.0)]);
    let cases = [
        ("1 << 20", 1_048_576.0),
        ("60 * 60 * 1000", 3_600_000.0),
        ("A", 3.0),
        ("(1 << 53) - 1", 9_007_199_254_740_991.0),
    ];
    for (expression, expect) in cases {
        assert!((value(expression, &known) - expect).abs() < 1e-9, "{expression}");
    }
    assert!((shown("10,000") - 10_000.0).abs() < 1e-9 && (shown("1 MiB") - 1_048_576.0).abs() < 1e-9);
}
