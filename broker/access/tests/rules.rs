//! Rules: who is meant, and what their claims make of patterns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/signing.rs"]
mod signing;

use serde_json::json;
use signing::*;
use tailwire_access::{Access, AccessRecord, Ended, HookAnswer, NewKey, Verdict};
use tailwire_model::{Action, Filter, Grants, Identity, Principal, Term, Timestamp, Topic};

fn term(name: &str) -> Term {
    Term::parse(name).unwrap()
}

fn subscribes(access: &Access, principal: &Principal) -> Vec<String> {
    access.grants(principal).terms(Action::Subscribe).iter().map(|term| term.as_str().to_owned()).collect()
}

/// Each kind of `who` grants a topic of its name.
fn all_kinds() -> Access {
    let mut section = ISSUERS.to_owned();
    let key = key();
    let kinds = [
        "anonymous",
        "any",
        "issuer:hs",
        "issuer:es",
        &format!("key:{}", key.record.id),
        "header",
        "certificate",
    ];
    for (index, who) in kinds.iter().enumerate() {
        section += &format!("[[rule]]\nwho = \"{who}\"\nsubscribe = [\"{index}\"]\n");
    }
    let access = access(&section);
    access.apply(AccessRecord::Key(key.record), NOW).unwrap();
    access
}

fn key() -> NewKey {
    NewKey::new(&[9; 42], "", Grants::NONE, NOW, None)
}

#[test]
fn a_rule_is_for_those_it_names_and_nobody_loses_by_a_credential() {
    let access = all_kinds();
    let of = |principal: &Principal| subscribes(&access, principal).concat();
    assert_eq!(of(&Principal::ANONYMOUS), "0");
    assert_eq!(of(&access.bearer(&token(&json!({})), NOW).unwrap()), "012");
    let other = signed("ES256", &json!({"alg": "ES256"}), &claims("es", &json!({})));
    assert_eq!(of(&access.bearer(&other, NOW).unwrap()), "013");
    assert_eq!(of(&access.bearer(&key().key.reveal(), NOW).unwrap()), "014");
    assert_eq!(of(&access.trusted_header("alice").unwrap()), "015");
    assert_eq!(of(&access.certificate("alice").unwrap()), "016");
}

#[test]
fn nobody_may_anything_without_a_rule() {
    let access = access(ISSUERS);
    for principal in [Principal::ANONYMOUS, access.bearer(&token(&json!({})), NOW).unwrap()] {
        assert!(access.permit_subscribe(&principal, Filter::from(term("**"))).is_err());
        assert!(access.permit_publish(&principal, &Topic::parse("a").unwrap()).is_err());
        assert!(access.permit_manage(&principal, &term("a")).is_err());
        assert!(access.permit_presence(&principal, Filter::from(term("a"))).is_err());
    }
}

#[test]
fn rules_and_the_tokens_own_grants_are_summed() {
    let section =
        format!("{ISSUERS}[[rule]]\nwho = \"any\"\nsubscribe = [\"users/{{sub}}/**\", \"rooms/{{room}}\"]\n");
    let access = access(&section);
    let over = json!({"room": 7, "tailwire": {"subscribe": ["news"]}});
    let principal = access.bearer(&token(&over), NOW).unwrap();
    assert_eq!(subscribes(&access, &principal), ["news", "rooms/7", "users/alice/**"]);
    let narrowed = access.permit_subscribe(&principal, Filter::from(term("**"))).unwrap();
    assert_eq!(narrowed.terms().len(), 3);
    let without = access.bearer(&token(&json!({"room": ["7"]})), NOW).unwrap();
    assert_eq!(subscribes(&access, &without), ["users/alice/**"], "a list is no segment");
}

#[test]
fn other_rules_hold_for_a_principal_from_the_next_question_on() {
    let before = access(&format!("{ISSUERS}[[rule]]\nwho = \"any\"\npublish = [\"a\"]\n"));
    let principal = before.bearer(&token(&json!({})), NOW).unwrap();
    let config = toml::from_str(&format!("{ISSUERS}[[rule]]\nwho = \"any\"\npublish = [\"b\"]\n")).unwrap();
    let after = before.reload(&config, &mut read).unwrap();
    let publishes =
        |access: &Access, name: &str| access.grants(&principal).permits_name(Action::Publish, name);
    assert!(publishes(&before, "a") && !publishes(&before, "b"));
    assert!(publishes(&after, "b") && !publishes(&after, "a"));
}

#[test]
fn what_a_credential_rests_on_may_be_gone() {
    let before = all_kinds();
    let token = before.bearer(&token(&json!({"tailwire": {"publish": ["a"]}})), NOW).unwrap();
    let principals = [token, before.trusted_header("alice").unwrap(), before.certificate("alice").unwrap()];
    let rule = "[[rule]]\nwho = \"any\"\npublish = [\"a\"]\n";
    let after = before.reload(&toml::from_str(rule).unwrap(), &mut read).unwrap();
    let may = |access: &Access| {
        principals.each_ref().map(|one| access.grants(one).permits_name(Action::Publish, "a"))
    };
    assert_eq!(may(&before), [true, false, false]);
    assert_eq!(may(&after), [false, false, true], "issuer and header are not configured any more");
    assert_eq!(after.check(&principals[0], NOW), Err(Ended::Revoked));
    let told = after.explain(&principals[0], Action::Publish, &term("a"));
    assert!(
        told.to_string().contains("credential: it was revoked, or what it rests on is not configured"),
        "{told}"
    );
}

#[test]
fn a_hooks_answer_grants_beside_what_was_granted_until_it_is_asked_again() {
    let access = access(&format!("{ISSUERS}[[rule]]\nwho = \"any\"\nsubscribe = [\"users/{{sub}}/**\"]\n"));
    let answer = |body: &str| HookAnswer::parse(body.as_bytes()).unwrap();
    let until = Some(Timestamp(NOW.0 + 5_000));
    let named = answer(r#"{"subject": "bob", "publish": ["rooms/1"]}"#);
    let bob = access.with_hook(&Principal::ANONYMOUS, b"cookie: 1", named, until);
    assert_eq!(*bob.identity(), Identity::Hook { subject: "bob".into() });
    assert_eq!(subscribes(&access, &bob), ["users/bob/**"]);
    assert!(bob.is_expired(Timestamp(NOW.0 + 5_000)));
    let nameless = || answer(r#"{"publish": ["rooms/1"]}"#);
    let one = access.with_hook(&Principal::ANONYMOUS, b"cookie: 1", nameless(), until);
    let two = access.with_hook(&Principal::ANONYMOUS, b"cookie: 2", nameless(), until);
    assert_ne!(one.scope(), two.scope());
    let alice = access.bearer(&token(&json!({})), NOW).unwrap();
    let more = access.with_hook(&alice, b"", nameless(), None);
    assert_eq!(more.scope(), alice.scope());
    assert_eq!(more.expiry(), alice.expiry());
    assert!(access.grants(&more).permits_name(Action::Publish, "rooms/1"));
    access.apply(AccessRecord::Key(key().record), NOW).unwrap();
    let key_holder = access.bearer(&key().key.reveal(), NOW).unwrap();
    let more = access.with_hook(&key_holder, b"", nameless(), None);
    assert_eq!(access.check(&more, NOW), Ok(()), "the key is what it was");
    assert!(HookAnswer::parse(br#"{"subject": "bob", "pubish": []}"#).is_err(), "a mistake is told");
}

#[test]
fn a_decision_says_how_it_came_about() {
    let access = access(&format!(
        "{ISSUERS}[[rule]]\nwho = \"anonymous\"\nsubscribe = [\"public/**\"]\n[[rule]]\nwho = \"any\"\nsubscribe = [\"users/{{sub}}/**\", \"t/{{tenant}}/*\"]\n[[rule]]\nwho = \"key:x\"\npublish = [\"a\"]\n"
    ));
    let explain =
        |credential: &str, action, name| access.explain_bearer(credential, NOW, action, &term(name));
    let good = explain(&token(&json!({"jti": "t1"})), Action::Subscribe, "users/alice/x");
    assert_eq!(good.verdict, Verdict::Permitted);
    let text = good.to_string();
    for line in [
        "subscribe users/alice/x: permitted\n",
        "  token: signature is right\n",
        "  principal: \"alice\" of the issuer hs, token \"t1\"\n",
        "  rule 0 (anonymous): grants public/**\n",
        "  rule 1 (any): grants users/alice/**; t/{tenant}/* matches nothing: there is no claim `tenant`",
        "  rule 2 (key:x): is not for this principal\n",
        "  credential: grants nothing\n",
        "  decided by the grant users/alice/**\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let narrowed = explain(&token(&json!({})), Action::Subscribe, "**");
    assert!(
        matches!(&narrowed.verdict, Verdict::Narrowed(filter) if filter.terms().len() == 2),
        "{narrowed}"
    );
    let forbidden = explain(&token(&json!({})), Action::Publish, "a");
    assert_eq!(forbidden.verdict, Verdict::Forbidden);
    assert!(forbidden.to_string().ends_with("  no grant permits it\n"), "{forbidden}");
    let late = explain(&token(&json!({"exp": NOW_SECONDS - 100})), Action::Publish, "a");
    assert_eq!(late.verdict, Verdict::Refused("token-expired"));
    let text = late.to_string();
    assert!(text.contains("token: signature is right") && !text.contains("audience"), "{text}");
    assert!(text.contains("expired 100 s ago"), "{text}");
    let anonymous = access.explain(&Principal::ANONYMOUS, Action::Subscribe, &term("public/a"));
    assert_eq!(anonymous.verdict, Verdict::Permitted);
}
