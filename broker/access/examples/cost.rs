//! The cost of decisions, in nanoseconds of one core: `cargo run --release -p tailwire-access --example cost`.
//! The design grants 1 µs for a publish by a token that was seen before, over an anonymous one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../tests/support/signing.rs"]
mod signing;

use std::{hint::black_box, time::Instant};

use serde_json::json;
use signing::{ISSUERS, NOW, access, claims, merged, signed};
use tailwire_access::{AccessRecord, NewKey};
use tailwire_model::{Action, Filter, Grants, Principal, Term, Topic};

/// The least of some runs, since whatever disturbs one makes it longer.
fn measure(what: &str, times: u32, mut run: impl FnMut(u32)) {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for n in 0..times {
            run(n);
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(times));
    }
    println!("{what:<60} {best:>10.0} ns");
}

fn main() {
    const RULES: &str = r#"
        [[rule]]
        who = "anonymous"
        subscribe = ["public/**"]
        [[rule]]
        who = "any"
        subscribe = ["users/{sub}/**"]
        publish = ["rooms/*"]
    "#;
    let access = access(&format!("{ISSUERS}{RULES}"));
    let topic = Topic::parse("rooms/17").unwrap();
    measure("anonymous: grants", 100_000, |_| {
        black_box(access.grants(black_box(&Principal::ANONYMOUS)));
    });
    for (key, issuer) in [("HS256", "hs"), ("ES256", "es"), ("RS256", "rs")] {
        let over = json!({
            "jti": "0f8fad5b-d9cb-469f-a165-70867728950e",
            "tailwire": {"subscribe": ["rooms/**", "news/*"], "publish": ["users/alice/out"]},
        });
        let make = |n: u32| {
            let claims = merged(claims(issuer, &over), &json!({"n": n}));
            signed(key, &json!({"alg": key, "typ": "JWT"}), &claims)
        };
        let token = make(0);
        measure(&format!("{key}, {} bytes, seen before", token.len()), 10_000, |_| {
            black_box(access.bearer(black_box(&token), NOW).unwrap());
        });
        measure(&format!("{key}, seen before, and a publish permitted"), 10_000, |_| {
            let principal = access.bearer(black_box(&token), NOW).unwrap();
            access.permit_publish(&principal, black_box(&topic)).unwrap();
        });
        // Each of them once.
        let tokens: Vec<String> = (1..=20 * 50).map(make).collect();
        let mut next = tokens.iter();
        measure(&format!("{key}, not seen before"), 50, |_| {
            black_box(access.bearer(next.next().unwrap(), NOW).unwrap());
        });
    }
    let granted = (0..100).map(|n| (Action::Publish, Term::parse(&format!("builds/{n}/*")).unwrap()));
    let NewKey { key, record } = NewKey::new(&[1; 42], "", Grants::new(granted), NOW, None);
    access.apply(AccessRecord::Key(record), NOW).unwrap();
    let key = key.reveal();
    measure("an API key", 10_000, |_| {
        black_box(access.bearer(black_box(&key), NOW).unwrap());
    });
    let principal = access.bearer(&key, NOW).unwrap();
    let last = Topic::parse("builds/99/x").unwrap();
    measure("a publish permitted by the last of 100 grants", 10_000, |_| {
        access.permit_publish(&principal, black_box(&last)).unwrap();
    });
    let term = |text: String| Term::parse(&text).unwrap();
    for count in [10, 1_000] {
        let grants = Grants::new((0..count).map(|n| (Action::Subscribe, term(format!("t/{n}/**")))));
        let all = Filter::from(term("**".to_owned()));
        measure(&format!("`**` narrowed to {count} grants"), 10, |_| {
            black_box(grants.permit_subscribe(all.clone()).unwrap());
        });
    }
    // The most work that a filter of 100 terms and 1,000 grants can make: they meet often, and say much the same.
    let grants =
        Grants::new((0..1_000).map(|n| (Action::Subscribe, term(format!("*/{}/*/{}", n / 32, n % 32)))));
    let filter = Filter::new((0..100).map(|n| term(format!("{n}/*/*/*"))).collect()).unwrap();
    measure("100 patterns and 1,000 grants that all meet: refused", 1, |_| {
        black_box(grants.permit_subscribe(filter.clone()).unwrap_err());
    });
    let filter = Filter::new((0..100).map(|n| term(format!("*/{n}/**"))).collect()).unwrap();
    measure("100 patterns and 1,000 grants of which each meets one", 1, |_| {
        black_box(grants.permit_subscribe(filter.clone()).unwrap());
    });
}
