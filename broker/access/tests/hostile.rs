//! Tokens that somebody made to be misread. Nothing panics, and what is accepted is what an oracle of a few lines accepts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/signing.rs"]
mod signing;

use std::sync::LazyLock;

use proptest::{collection::vec, option::of, prelude::*, sample::select};
use serde_json::{Value, json};
use signing::*;
use tailwire_access::Access;

static ACCESS: LazyLock<Access> = LazyLock::new(|| access(ISSUERS));

fn is_accepted(token: &str) -> bool {
    ACCESS.bearer(token, NOW).is_ok()
}

#[test]
fn no_letter_of_a_token_can_be_changed_added_or_left_out() {
    for key in ["HS256", "ES256"] {
        let token = signed(key, &json!({"alg": key}), &claims(&key[..2].to_lowercase(), &json!({})));
        assert!(is_accepted(&token));
        for index in 0..token.len() {
            let (before, after) = token.split_at(index);
            let rest = &after[1..];
            assert!(!is_accepted(&format!("{before}{rest}")), "without {index}");
            for letter in ["A", "b", "_", ".", "=", " ", "\n", "\0", "é"] {
                assert!(!is_accepted(&format!("{before}{letter}{after}")), "{letter:?} before {index}");
                assert!(after.starts_with(letter) || !is_accepted(&format!("{before}{letter}{rest}")));
            }
        }
        for (before, after) in [("", " "), (" ", ""), ("", "\n"), ("", "."), ("", "="), ("Bearer ", "")] {
            assert!(!is_accepted(&format!("{before}{token}{after}")));
        }
    }
}

/// Any JSON, with a liking for what claims have.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![NOW_SECONDS - 31, NOW_SECONDS - 29, NOW_SECONDS + 29, NOW_SECONDS + 31])
            .prop_map(Value::from),
        select(vec!["hs", "es", AUDIENCE, "alice", "", "none", "1800000100", "a\nb"]).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec(("[a-z]{1,3}", inner), 0..3).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Right claims, of which some are replaced.
fn some_claims() -> impl Strategy<Value = Value> {
    let names = ["iss", "aud", "exp", "nbf", "sub", "jti", "iat", "tailwire", "note"];
    let changes = vec((select(names.to_vec()), of(value())), 0..3);
    changes.prop_map(|changes| {
        let mut all = claims("hs", &json!({}));
        for (name, value) in changes {
            match value {
                Some(value) => all[name] = value,
                None => drop(all.as_object_mut().unwrap().remove(name)),
            }
        }
        all
    })
}

/// The accepted claims of a well signed token, said another way than the code says it.
fn oracle(claims: &Value) -> bool {
    let is_name = |value: &Value| {
        value.as_str().is_some_and(|name| {
            !name.is_empty()
                && name.len() < 256
                && !name.chars().any(|c| c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c))
        })
    };
    let in_range =
        |value: &Value| value.as_f64().filter(|seconds| (0.0..=253_402_300_799.0).contains(seconds));
    let optional = |name: &str, is_good: &dyn Fn(&Value) -> bool| claims.get(name).is_none_or(is_good);
    #[allow(clippy::cast_precision_loss)]
    let now = NOW_SECONDS as f64;
    let audience = match &claims["aud"] {
        Value::Array(list) => list.iter().all(Value::is_string) && list.contains(&json!(AUDIENCE)),
        one => *one == AUDIENCE,
    };
    claims["iss"] == "hs"
        && audience
        && is_name(&claims["sub"])
        && in_range(&claims["exp"]).is_some_and(|end| now < end + 30.0)
        && optional("nbf", &|value| in_range(value).is_some_and(|begin| begin <= now + 30.0))
        && optional("iat", &|value| in_range(value).is_some())
        && optional("jti", &is_name)
        // The only objects that are drawn and grant something are empty.
        && optional("tailwire", &|value| value.as_object().is_some_and(serde_json::Map::is_empty))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_signed_is_accepted_as_an_oracle_accepts_it(claims in some_claims()) {
        let token = signed("HS256", &json!({"alg": "HS256"}), &claims);
        let accepted = ACCESS.bearer(&token, NOW);
        prop_assert_eq!(accepted.is_ok(), oracle(&claims), "{}: {:?}", claims, accepted);
    }

    #[test]
    fn a_header_only_chooses_among_what_is_configured(
        name in select(vec!["alg", "typ", "kid", "crit", "jku", "jwk", "x5u", "x5c", "b64", "zip", "cty"]), value in value(),
    ) {
        let header = merged(json!({"alg": "HS256"}), &json!({}));
        let mut header = header;
        header[name] = value.clone();
        let token = signed("HS256", &header, &claims("hs", &json!({})));
        let expected = match name {
            "alg" => value == "HS256",
            "typ" => value.as_str().is_some_and(|name| ["jwt", "at+jwt"].contains(&&*name.to_lowercase())),
            "kid" => value.is_string(),
            "b64" | "zip" | "cty" => true,
            _ => false,
        };
        prop_assert_eq!(is_accepted(&token), expected, "{}", header);
    }

    #[test]
    fn bytes_are_refused_and_nothing_panics(
        parts in vec(vec(any::<u8>(), 0..60), 0..5), text in "\\PC{0,60}", json in "[\\[{\"a:,}\\]]{0,40}",
    ) {
        let encoded: Vec<String> = parts.iter().map(|part| base64url(part)).collect();
        prop_assert!(!is_accepted(&encoded.join(".")));
        prop_assert!(!is_accepted(&text));
        let (key, algorithm) = signing_key("HS256");
        for token in [
            signed_parts(&json, "{}", &key, algorithm),
            signed_parts(r#"{"alg":"HS256"}"#, &json, &key, algorithm),
        ] {
            prop_assert!(!is_accepted(&token));
        }
    }
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    let (key, algorithm) = signing_key("HS256");
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let claims = format!(r#"{{"iss":"hs","tailwire":{deep}}}"#);
    assert!(!is_accepted(&signed_parts(r#"{"alg":"HS256"}"#, &claims, &key, algorithm)));
}
