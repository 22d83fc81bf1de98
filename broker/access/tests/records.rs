//! Keys, revocations and tickets: what is kept of them, and what ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/signing.rs"]
mod signing;

use proptest::prelude::*;
use serde_json::{Value, json};
use signing::*;
use tailwire_access::{
    Access, AccessKeyRecord, AccessRecord, Change, Ended, Key, KeyError, NewKey, Refused, Revocation,
    RevocationTarget, TicketError, TokenError,
};
use tailwire_model::{Action, Grants, Identity, Principal, Term, Timestamp};

fn grants(granted: &[(Action, &str)]) -> Grants {
    Grants::new(granted.iter().map(|(action, name)| (*action, Term::parse(name).unwrap())))
}

fn key(seed: u8, expires: Option<Timestamp>) -> NewKey {
    let random =
        std::array::from_fn(|index| u8::try_from(index).unwrap().wrapping_mul(37).wrapping_add(seed));
    NewKey::new(&random, "ci", grants(&[(Action::Publish, "builds/**")]), NOW, expires)
}

fn later(ms: u64) -> Timestamp {
    Timestamp(NOW.0 + ms)
}

#[test]
fn a_key_is_its_holders_text_and_the_brokers_hash() {
    let access = access("");
    let NewKey { key, record } = key(1, None);
    let text = key.reveal();
    assert_eq!(text.len(), 4 + 16 + 1 + 52);
    assert!(text.starts_with(&format!("twk_{}_", key.id())));
    assert_eq!(Key::parse(&text), Ok(key.clone()));
    assert!(!format!("{key:?}{record:?}").contains(&text[21..]), "a debug line has no secret");
    assert!(!record.to_json().contains(&text[21..]));
    assert_eq!(access.bearer(&text, NOW), Err(Refused::Key(KeyError::Unknown(key.id().into()))));
    access.apply(AccessRecord::Key(record), NOW).unwrap();
    let principal = access.bearer(&text, NOW).unwrap();
    assert!(matches!(principal.identity(), Identity::Key { id, .. } if **id == *key.id()));
    assert!(access.grants(&principal).permits_name(Action::Publish, "builds/1"));
    let again = access.bearer(&text, NOW).unwrap();
    assert!(std::sync::Arc::ptr_eq(&access.grants(&principal), &access.grants(&again)), "made once");
}

#[test]
fn a_key_has_one_spelling() {
    let text = key(1, None).key.reveal();
    let (id, secret) = (&text[4..20], &text[21..]);
    for wrong in [
        text.to_ascii_uppercase(),
        format!("twk_{}_{secret}", id.to_ascii_uppercase()),
        format!("twk_{id}_{}", secret.to_ascii_uppercase()),
        format!("twk_{id}{secret}"),
        format!("twk_{id}_{secret}a"),
        format!("twk_{id}_{}", &secret[1..]),
        format!("twk_{id}_{secret} "),
        format!("twk_{id}_{}1", &secret[..51]),
        "twk_".to_owned(),
        "twk__".to_owned(),
    ] {
        assert_eq!(Key::parse(&wrong), Err(KeyError::Malformed), "{wrong}");
    }
    // The last character has four bits that stand for nothing.
    let spellings = "abcdefghijklmnopqrstuvwxyz234567".chars();
    let good = spellings.filter(|last| Key::parse(&format!("twk_{id}_{}{last}", &secret[..51])).is_ok());
    assert_eq!(good.count(), 2);
}

#[test]
fn a_wrong_secret_an_end_and_a_revocation_are_told_apart() {
    let access = access("");
    let NewKey { key: own, record } = key(1, Some(later(1000)));
    let text = own.reveal();
    access.apply(AccessRecord::Key(record.clone()), NOW).unwrap();
    let other = key(2, None).key.reveal();
    let mixed = format!("{}{}", &text[..21], &other[21..]);
    assert_eq!(access.bearer(&mixed, NOW), Err(Refused::Key(KeyError::WrongSecret(own.id().into()))));
    let principal = access.bearer(&text, later(999)).unwrap();
    assert_eq!(access.check(&principal, later(999)), Ok(()));
    assert_eq!(
        access.check(&principal, later(1000)),
        Err(Ended::Expired),
        "no leeway: the end is by our clock"
    );
    let ended = access.bearer(&text, later(3000)).unwrap_err();
    assert_eq!((ended.code(), ended.to_string().contains("2 s ago")), ("token-expired", true));
    let revoked = AccessKeyRecord { is_revoked: true, ..record };
    let change = access.apply(AccessRecord::Key(revoked), NOW).unwrap();
    assert!(change.concerns(&principal) && !change.concerns(&Principal::ANONYMOUS));
    assert_eq!(access.check(&principal, NOW), Err(Ended::Revoked));
    assert_eq!(access.bearer(&text, NOW), Err(Refused::Key(KeyError::Revoked(own.id().into()))));
}

#[test]
fn a_key_whose_grants_change_ends_what_it_opened() {
    let access = access("");
    let NewKey { key: own, record } = key(1, None);
    access.apply(AccessRecord::Key(record.clone()), NOW).unwrap();
    let before = access.bearer(&own.reveal(), NOW).unwrap();
    let change = access.apply(AccessRecord::Key(record.clone()), NOW).unwrap();
    assert!(change.concerns(&before));
    assert_eq!(access.check(&before, NOW), Ok(()), "the same again changes nothing");
    let changed = AccessKeyRecord { grants: grants(&[(Action::Subscribe, "x")]), ..record };
    access.apply(AccessRecord::Key(changed), NOW).unwrap();
    assert_eq!(access.check(&before, NOW), Err(Ended::Revoked));
    let after = access.bearer(&own.reveal(), NOW).unwrap();
    assert!(!access.grants(&after).permits_name(Action::Publish, "builds/1"));
    assert_eq!(after.scope(), before.scope());
    let change = access.apply(AccessRecord::KeyRemoved(own.id().into()), NOW).unwrap();
    assert_eq!(change, Change::Key(own.id().into()));
    assert_eq!(access.check(&after, NOW), Err(Ended::Revoked));
    assert!(access.key_records().is_empty());
}

#[test]
fn a_record_that_is_damaged_makes_no_key_good() {
    let record = AccessKeyRecord { is_revoked: true, ..key(1, Some(later(5))).record };
    let json: Value = serde_json::from_str(&record.to_json()).unwrap();
    assert_eq!(json["revoked"], true);
    let with = |over: Value| AccessKeyRecord::parse(merged(json.clone(), &over).to_string().as_bytes());
    assert_eq!(with(json!({"later": 1})), Ok(record), "members of a later version");
    for odd in [json!(1), json!("false"), json!({}), json!([])] {
        assert!(with(json!({"revoked": odd})).unwrap().is_revoked, "{odd}");
    }
    assert!(!with(json!({"revoked": false})).unwrap().is_revoked);
    for wrong in [
        json!({"hash": null}),
        json!({"hash": "00"}),
        json!({"id": "x"}),
        json!({"id": null}),
        json!({"expires_ms": "soon"}),
        json!({"expires_ms": -1}),
        json!({"publish": "a"}),
        json!({"publish": ["a/**/b"]}),
    ] {
        assert!(with(wrong.clone()).is_err(), "{wrong}");
    }
    assert!(AccessKeyRecord::parse(b"[]").is_err());
    assert!(AccessKeyRecord::parse(b"").is_err());
}

fn revocation(target: RevocationTarget) -> Revocation {
    Revocation { target, issued_before: None, until: None }
}

fn of_token(id: &str) -> Revocation {
    revocation(RevocationTarget::Token { issuer: "hs".into(), token_id: id.into() })
}

#[test]
fn a_revoked_token_is_refused_though_it_was_seen_before() {
    let access = access(ISSUERS);
    let (one, two) = (token(&json!({"jti": "1"})), token(&json!({"jti": "2"})));
    let principals = [access.bearer(&one, NOW).unwrap(), access.bearer(&two, NOW).unwrap()];
    let change = access.apply(AccessRecord::Revocation(of_token("1")), NOW).unwrap();
    assert_eq!(principals.each_ref().map(|principal| change.concerns(principal)), [true, false]);
    assert_eq!(access.bearer(&one, NOW), Err(Refused::Token(TokenError::Revoked)));
    assert!(access.bearer(&two, NOW).is_ok());
    assert_eq!(access.check(&principals[0], NOW), Err(Ended::Revoked));
    assert_eq!(*access.grants(&principals[0]), Grants::NONE, "also for what is asked on an open connection");
    assert_eq!(access.check(&principals[1], NOW), Ok(()));
}

#[test]
fn tokens_of_a_holder_are_revoked_up_to_a_time() {
    let access = access(ISSUERS);
    let target = RevocationTarget::Subject { issuer: "hs".into(), subject: "alice".into() };
    let until_now = Revocation { issued_before: Some(NOW), ..revocation(target) };
    access.apply(AccessRecord::Revocation(until_now), NOW).unwrap();
    let issued = |seconds: u64| access.bearer(&token(&json!({"iat": seconds})), NOW);
    assert_eq!(issued(NOW_SECONDS - 1), Err(Refused::Token(TokenError::Revoked)));
    assert!(issued(NOW_SECONDS).is_ok());
    assert!(access.bearer(&token(&json!({})), NOW).is_err(), "one that doesn't say when counts as before");
    assert!(access.bearer(&token(&json!({"sub": "bob"})), NOW).is_ok());
    let elsewhere = signed("ES256", &json!({"alg": "ES256"}), &claims("es", &json!({})));
    assert!(access.bearer(&elsewhere, NOW).is_ok(), "another issuer's alice is another");
}

#[test]
fn revocations_are_kept_over_a_change_of_the_configuration() {
    let before = access(ISSUERS);
    before.apply(AccessRecord::Revocation(of_token("1")), NOW).unwrap();
    let NewKey { key, record } = key(1, None);
    before.apply(AccessRecord::Key(record), NOW).unwrap();
    let ticket = before.issue_ticket(&Principal::ANONYMOUS, &[7; 32], NOW).unwrap();
    let config = toml::from_str(ISSUERS).unwrap();
    let after = before.reload(&config, &mut read).unwrap();
    assert_eq!(after.bearer(&token(&json!({"jti": "1"})), NOW), Err(Refused::Token(TokenError::Revoked)));
    assert!(after.bearer(&key.reveal(), NOW).is_ok());
    assert!(after.redeem_ticket(&ticket, NOW).is_ok());
}

#[test]
fn a_ticket_opens_one_connection_within_its_time() {
    let access = access(ISSUERS);
    let principal = access.bearer(&token(&json!({"jti": "1"})), NOW).unwrap();
    let ticket = access.issue_ticket(&principal, &[1; 32], NOW).unwrap();
    assert_eq!(access.redeem_ticket(&ticket, later(29_999)).as_ref(), Ok(&principal));
    let unknown = Err(Refused::Ticket(TicketError::Unknown));
    assert_eq!(access.redeem_ticket(&ticket, NOW), unknown, "once");
    let ticket = access.issue_ticket(&principal, &[2; 32], NOW).unwrap();
    assert_eq!(access.redeem_ticket(&ticket, later(30_000)), unknown);
    assert_eq!(access.redeem_ticket("", NOW), unknown);
    let ticket = access.issue_ticket(&principal, &[3; 32], NOW).unwrap();
    access.apply(AccessRecord::Revocation(of_token("1")), NOW).unwrap();
    assert_eq!(access.redeem_ticket(&ticket, NOW), unknown, "its token was revoked meanwhile");
}

#[test]
fn tickets_are_bounded_for_each_and_for_all() {
    let access = access(ISSUERS);
    let random = |n: u64| std::array::from_fn(|index| n.to_le_bytes()[index % 8]);
    for n in 0..64 {
        access.issue_ticket(&Principal::ANONYMOUS, &random(n), NOW).unwrap();
    }
    let full = access.issue_ticket(&Principal::ANONYMOUS, &random(64), NOW);
    assert_eq!(full, Err(TicketError::TooMany));
    let other = access.trusted_header("alice").unwrap();
    // Those that are used make room at once, however often.
    for n in 0..1_000 {
        let ticket = access.issue_ticket(&other, &random(n + 1_000), NOW).unwrap();
        assert!(access.redeem_ticket(&ticket, NOW).is_ok());
    }
    assert!(
        access.issue_ticket(&Principal::ANONYMOUS, &random(65), later(30_000)).is_ok(),
        "old ones are gone"
    );
}

fn term() -> impl Strategy<Value = Term> {
    let names = ["a", "b/**", "*", "**", "a/*/c", "$sys/x", "{sub}", "日本", "a b"];
    proptest::sample::select(names.to_vec()).prop_map(|name| Term::parse(name).unwrap())
}

fn some_grants() -> impl Strategy<Value = Grants> {
    let one = (proptest::sample::select(Action::ALL.to_vec()), term());
    proptest::collection::vec(one, 0..8).prop_map(Grants::new)
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    proptest::option::of(any::<u64>().prop_map(Timestamp))
}

proptest! {
    #[test]
    fn every_record_of_a_key_comes_back_as_it_was(
        seed in any::<u8>(), name in "\\PC{0,20}", grants in some_grants(),
        created in any::<u64>(), expires in time(), is_revoked in any::<bool>(),
    ) {
        let record = NewKey::new(&[seed; 42], &name, grants, Timestamp(created), expires).record;
        let record = AccessKeyRecord { is_revoked, ..record };
        prop_assert_eq!(AccessKeyRecord::parse(record.to_json().as_bytes()), Ok(record));
    }

    #[test]
    fn every_revocation_comes_back_as_it_was(
        issuer in "[^\\p{Cc}]{1,60}", name in "[^\\p{Cc}]{1,60}", is_token in any::<bool>(),
        issued_before in time(), until in time(),
    ) {
        let (issuer, name) = (issuer.into(), name.into());
        let target = if is_token {
            RevocationTarget::Token { issuer, token_id: name }
        } else {
            RevocationTarget::Subject { issuer, subject: name }
        };
        let revocation = Revocation { target, issued_before, until };
        prop_assert!(revocation.key().len() <= 255);
        prop_assert_eq!(Revocation::parse(revocation.to_json().as_bytes()), Ok(revocation));
    }

    #[test]
    fn what_is_no_record_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = AccessKeyRecord::parse(&bytes);
        let _ = Revocation::parse(&bytes);
        let _ = tailwire_access::HookAnswer::parse(&bytes);
    }

    #[test]
    fn what_is_no_key_is_refused(text in "\\PC{0,80}", tail in "[a-z2-7_]{0,80}") {
        let access: Access = access("");
        for credential in [text.clone(), format!("twk_{tail}"), format!("twk_{text}")] {
            prop_assert!(access.bearer(&credential, NOW).is_err());
        }
    }
}
