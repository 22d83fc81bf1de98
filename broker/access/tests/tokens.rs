//! Tokens: who signed them, by what, for whom and until when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/signing.rs"]
mod signing;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use signing::*;
use tailwire_access::{Access, Check, Refused, TokenError, inspect, mint};
use tailwire_model::{Action, Identity, Principal, Term, Timestamp};

fn refused(access: &Access, token: &str) -> TokenError {
    match access.bearer(token, NOW) {
        Err(Refused::Token(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn subject(principal: &Principal) -> &str {
    match principal.identity() {
        Identity::Token(token) => &token.subject,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_type_of_key_signs_for_its_issuer_alone() {
    let access = access(ISSUERS);
    let signers = [("HS256", "hs"), ("ES256", "es"), ("ES384", "es"), ("RS256", "rs"), ("EdDSA", "ed")];
    for (key, own) in signers {
        for issuer in ["hs", "es", "rs", "ed", "nobody"] {
            let claims = claims(issuer, &json!({"email": "alice"}));
            let token = signed(key, &json!({"alg": key}), &claims);
            let accepted = access.bearer(&token, NOW);
            assert_eq!(accepted.is_ok(), issuer == own, "{key} for {issuer}: {accepted:?}");
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let access = access(ISSUERS);
    for (pair, issuer) in [(&*RS256, "rs"), (&*ES256, "es"), (&*EDDSA, "ed")] {
        let key = EncodingKey::from_secret(pair.public_pem.as_bytes()).unwrap();
        let claims = claims(issuer, &json!({"email": "alice"})).to_string();
        let token = signed_parts(r#"{"alg":"HS256"}"#, &claims, &key, Algorithm::HS256);
        assert!(matches!(refused(&access, &token), TokenError::AlgorithmNotAllowed { .. }));
    }
}

#[test]
fn a_signature_of_another_message_or_of_none_is_refused() {
    let access = access(ISSUERS);
    for key in ["HS256", "ES256", "RS256"] {
        let issuer = key[..2].to_lowercase();
        let token = signed(key, &json!({"alg": key}), &claims(&issuer, &json!({})));
        assert!(access.bearer(&token, NOW).is_ok());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let other = signed(key, &json!({"alg": key}), &claims(&issuer, &json!({"sub": "bob"})));
        let other = other.rsplit_once('.').unwrap().1;
        for wrong in [other, "", "AAAA", &signature[4..], &format!("AAAA{signature}")] {
            let refused = refused(&access, &format!("{message}.{wrong}"));
            assert!(matches!(refused, TokenError::BadSignature { tried: 1, .. }), "{key}: {refused:?}");
        }
    }
}

#[test]
fn what_is_too_long_or_no_token_is_refused_before_any_key() {
    let access = access(ISSUERS);
    let long = token(&json!({"note": "x".repeat(7_000)}));
    assert!(matches!(refused(&access, &long), TokenError::TooLong(_)), "{} bytes", long.len());
    assert_eq!(refused(&access, &"x".repeat(100_000)), TokenError::TooLong(100_000));
    for text in
        ["", ".", "..", "...", "a.b", "a.b.c.d.e", "e30.e30.", "e30.e30.!", "e30=.e30.", "bm9wZQ.e30."]
    {
        let error = refused(&access, text);
        assert!(error.check() <= Check::Algorithm, "{text:?}: {error:?}");
    }
}

#[test]
fn one_name_twice_in_header_or_claims_is_refused() {
    let access = access(ISSUERS);
    let (key, algorithm) = signing_key("HS256");
    let claims = claims("hs", &json!({})).to_string();
    for (header, claims) in [
        (r#"{"alg":"HS256","alg":"HS256"}"#.to_owned(), claims.clone()),
        (r#"{"alg":"HS256"}"#.to_owned(), claims.replacen('{', r#"{"sub":"root","#, 1)),
        (
            r#"{"alg":"HS256"}"#.to_owned(),
            claims.replacen('{', r#"{"tailwire":{"publish":[],"publish":["**"]},"#, 1),
        ),
    ] {
        let token = signed_parts(&header, &claims, &key, algorithm);
        assert!(matches!(refused(&access, &token), TokenError::Malformed(_)), "{header} {claims}");
    }
}

#[test]
fn clocks_may_differ_by_the_leeway_and_the_operator_is_told_by_how_much() {
    let access = access(ISSUERS);
    let until = token(&json!({"exp": NOW_SECONDS}));
    assert!(access.bearer(&until, Timestamp(NOW.0 + 29_999)).is_ok());
    let late = access.bearer(&until, Timestamp(NOW.0 + 30_000)).unwrap_err();
    assert_eq!(late, Refused::Token(TokenError::Expired { ago_ms: 30_000, leeway_ms: 30_000 }));
    assert_eq!(late.code(), "token-expired");
    assert_eq!(late.to_string(), "the token expired 30 s ago by this clock, beyond the leeway of 30 s");
    let from = token(&json!({"nbf": NOW_SECONDS + 100}));
    let early = access.bearer(&from, NOW).unwrap_err();
    assert_eq!(early.to_string(), "the token is valid in 100 s by this clock, beyond the leeway of 30 s");
    assert_eq!(early.code(), "token-invalid");
    assert!(access.bearer(&from, Timestamp(NOW.0 + 70_000)).is_ok_and(|principal| {
        let at = principal.expiry().unwrap();
        at.at == Timestamp(NOW.0 + 60_000) && at.refused_from() == Timestamp(NOW.0 + 90_000)
    }));
}

#[test]
fn a_token_that_was_seen_is_known_until_it_expires() {
    let access = access(ISSUERS);
    let token = token(&json!({}));
    let one = access.bearer(&token, NOW).unwrap();
    assert_eq!(access.tokens_cached(), 1);
    let two = access.bearer(&token, NOW).unwrap();
    assert_eq!(one, two);
    assert!(std::sync::Arc::ptr_eq(&access.grants(&one), &access.grants(&two)), "made once");
    let end = Timestamp(NOW.0 + 90_000);
    assert!(matches!(access.bearer(&token, end), Err(Refused::Token(TokenError::Expired { .. }))));
    assert_eq!(access.tokens_cached(), 0);
    assert!(access.bearer("x.y.z", NOW).is_err());
    assert_eq!(access.tokens_cached(), 0, "what is refused takes no room");
}

#[test]
fn fetched_keys_are_found_by_their_id_and_what_a_lost_one_signed_holds_no_more() {
    let access = access(ISSUERS);
    let document = |keys: &[(&str, &Pair)]| {
        let keys: Vec<Value> =
            keys.iter().map(|(id, pair)| merged(pair.jwk.clone(), &json!({"kid": id}))).collect();
        json!({ "keys": keys }).to_string().into_bytes()
    };
    let by = |key: &str, id: &str| {
        signed(key, &json!({"alg": "ES256", "kid": id}), &claims("fetched", &json!({})))
    };
    let first = by("ES256", "one");
    let error = refused(&access, &first);
    assert_eq!((error.code(), error.refresh()), ("access-unavailable", Some("fetched")));
    assert!(access.set_jwks("fetched", &document(&[("one", &ES256)])).unwrap().is_empty());
    assert!(access.bearer(&first, NOW).is_ok());
    let second = by("other ES256", "two");
    let error = refused(&access, &second);
    assert_eq!((error.code(), error.refresh()), ("token-invalid", Some("fetched")));
    assert!(matches!(refused(&access, &by("other ES256", "one")), TokenError::BadSignature { tried: 1, .. }));
    access.set_jwks("fetched", &document(&[("one", &ES256), ("two", &OTHER_ES256)])).unwrap();
    assert!(access.bearer(&first, NOW).is_ok() && access.bearer(&second, NOW).is_ok());
    access.set_jwks("fetched", &document(&[("two", &OTHER_ES256)])).unwrap();
    assert!(matches!(refused(&access, &first), TokenError::UnknownKey { .. }), "though it was seen before");
    assert!(access.bearer(&second, NOW).is_ok());
    assert!(access.set_jwks("fetched", b"{\"keys\":[]}").is_err());
    assert!(access.bearer(&second, NOW).is_ok(), "a document without keys changes nothing");
    assert!(access.set_jwks("es", &document(&[("two", &OTHER_ES256)])).is_err(), "its keys are configured");
}

#[test]
fn a_document_of_keys_has_what_else_an_issuer_publishes() {
    let access = access(ISSUERS);
    let mut keys = vec![
        json!({"kty": "oct", "k": base64url(SECRET.as_bytes()), "kid": "secret"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "weak"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "curve"}),
        json!({"kty": "new", "kid": "new"}),
        json!("nothing"),
    ];
    for over in [
        json!({"use": "enc", "kid": "enc"}),
        json!({"d": "AA", "kid": "private"}),
        json!({"alg": "ES384", "kid": "other algorithm"}),
        json!({"x": "AA", "kid": "short"}),
        json!({"y": ES256.jwk["x"], "kid": "not on the curve"}),
        json!({"key_ops": ["sign"], "kid": "ops"}),
    ] {
        keys.push(merged(ES256.jwk.clone(), &over));
    }
    let wrong = keys.len();
    assert!(access.set_jwks("fetched", json!({"keys": keys.clone()}).to_string().as_bytes()).is_err());
    for pair in [&ES256, &ES384, &RS256, &EDDSA] {
        keys.push(pair.jwk.clone());
    }
    let skipped = access.set_jwks("fetched", json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    assert_eq!(skipped.len(), wrong, "{skipped:?}");
    for key in ["ES256", "ES384", "RS256", "EdDSA"] {
        let token = signed(key, &json!({"alg": key}), &claims("fetched", &json!({})));
        assert!(access.bearer(&token, NOW).is_ok(), "{key}");
    }
}

#[test]
fn a_token_that_is_minted_here_is_one_and_can_be_looked_into() {
    let access = access(ISSUERS);
    let own = claims("hs", &json!({})).to_string();
    let token = mint("HS256", SECRET.as_bytes(), Some("k"), &own).unwrap();
    assert!(access.bearer(&token, NOW).is_ok());
    let (header, claims) = inspect(&token).unwrap();
    assert_eq!((header.as_str(), claims), (r#"{"alg":"HS256","kid":"k","typ":"JWT"}"#, own));
    assert!(mint("HS257", b"x", None, "{}").is_err());
    assert!(mint("ES256", SECRET.as_bytes(), None, "{}").is_err());
    assert!(mint("HS256", SECRET.as_bytes(), None, "[]").is_err());
    assert!(inspect("a.b").is_err());
    let later_name =
        signed("EdDSA", &json!({"alg": "Ed25519"}), &signing::claims("ed", &json!({"email": "a"})));
    assert!(access.bearer(&later_name, NOW).is_ok());
}

#[test]
fn claims_name_the_holder_and_what_is_granted() {
    let access = access(ISSUERS);
    let over = json!({"jti": "t1", "iat": NOW_SECONDS - 5, "tailwire": {"subscribe": ["a/**"], "publish": ["a/{sub}"]}});
    let principal = access.bearer(&token(&over), NOW).unwrap();
    let Identity::Token(identity) = principal.identity() else { panic!("{principal:?}") };
    assert_eq!((&*identity.issuer, &*identity.subject), ("hs", "alice"));
    assert_eq!(identity.token_id.as_deref(), Some("t1"));
    assert_eq!(identity.issued, Some(Timestamp(NOW.0 - 5_000)));
    let grants = access.grants(&principal);
    assert_eq!(grants.terms(Action::Subscribe), [Term::parse("a/**").unwrap()]);
    assert_eq!(
        grants.terms(Action::Publish),
        [Term::parse("a/{sub}").unwrap()],
        "a token's braces are braces"
    );
    let claims = claims("ed", &json!({"email": "a@b", "https://example.com/tailwire": {"manage": ["x"]}}));
    let principal = access.bearer(&signed("EdDSA", &json!({"alg": "EdDSA"}), &claims), NOW).unwrap();
    assert_eq!(subject(&principal), "a@b");
    assert!(access.grants(&principal).permit_manage(&Term::parse("x").unwrap()).is_ok());
}
