//! The section `[access]`: accepted settings, and the messages for others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/signing.rs"]
mod signing;

use signing::*;
use tailwire_access::config::{AccessConfig, OnError, Source};
use tailwire_model::{Action, Term};

const WHOLE: &str = r#"
audience = "https://rt.example.com"
leeway_seconds = 5
cookie = ""
[[issuer]]
issuer = "https://app.example.com"
secrets = ["file:secret", "0123456789abcdef0123456789abcdeX"]
grants = "tailwire"
subject = "sub"
[[issuer]]
issuer = "https://other.example.com"
keys = ["file:es256.pem"]
algorithms = ["ES256"]
[[rule]]
who = "anonymous"
subscribe = ["public/**"]
presence = ["public/**"]
[[rule]]
who = "issuer:https://other.example.com"
subscribe = ["$sys/**"]
manage = ["tenants/{https://example.com/tenant}/**"]
[hook]
url = "http://127.0.0.1:9000/tailwire"
topics = ["rooms/**"]
actions = ["subscribe", "publish"]
headers = ["Cookie"]
timeout_ms = 1000
max_age_seconds = 60
on_error = "deny"
secret = "file:secret"
[trusted_header]
name = "X-Forwarded-User"
from = ["10.0.0.0/8", "::1"]
"#;

#[test]
fn a_whole_section_is_taken() {
    let access = access(WHOLE);
    assert_eq!(access.cookie(), None);
    assert_eq!(access.header_of("10.1.2.3".parse().unwrap()), Some("x-forwarded-user"));
    assert_eq!(access.header_of("::ffff:10.1.2.3".parse().unwrap()), Some("x-forwarded-user"));
    assert_eq!(access.header_of("11.1.2.3".parse().unwrap()), None);
    let hook = access.hook().unwrap();
    assert_eq!((&*hook.headers[0], hook.on_error), ("cookie", OnError::Deny));
    assert_eq!(hook.secret.as_deref(), Some(SECRET.as_bytes()), "without the line break of its file");
    assert!(hook.concerns(Action::Publish, &Term::parse("rooms/1").unwrap()));
    assert!(hook.concerns(Action::Subscribe, &Term::parse("**").unwrap()));
    assert!(!hook.concerns(Action::Manage, &Term::parse("rooms/1").unwrap()));
    assert!(!hook.concerns(Action::Publish, &Term::parse("other").unwrap()));
}

#[test]
fn what_is_not_said_is_the_safe_thing() {
    let config: AccessConfig = toml::from_str("").unwrap();
    assert_eq!(config, AccessConfig::default());
    let access = access("");
    assert_eq!(access.cookie(), Some("__Host-tailwire"));
    assert!(access.hook().is_none() && access.header_of("127.0.0.1".parse().unwrap()).is_none());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let secrets = "[[issuer]]\nissuer = \"i\"\nsecrets = [\"file:secret\"]\n";
    let with = |text: &str| format!("audience = \"a\"\n{secrets}{text}");
    let rule = |text: &str| with(&format!("[[rule]]\n{text}\n"));
    let issuer = |text: &str| format!("audience = \"a\"\n[[issuer]]\nissuer = \"i\"\n{text}\n");
    let cases = [
        ("colour = 1".to_owned(), "unknown field `colour`"),
        (with("secret = [\"x\"]"), "unknown field `secret`"),
        (rule("who = \"any\"\nread = [\"a\"]"), "unknown field `read`"),
        ("leeway_seconds = 3600".to_owned(), "access.leeway_seconds: it is at most 600"),
        ("cookie = \"a b\"".to_owned(), "access.cookie:"),
        (secrets.to_owned(), "access.audience: tokens name it in `aud`"),
        (
            with("[[issuer]]\nissuer = \"i\"\nsecrets = [\"file:secret\"]"),
            "access.issuer[1]: the issuer `i` stands there twice",
        ),
        (issuer(""), "access.issuer[0]: an issuer has one of"),
        (
            issuer("secrets = [\"file:secret\"]\nkeys = [\"file:es256.pem\"]"),
            "access.issuer[0]: an issuer has one of",
        ),
        (issuer("secrets = [\"file:nowhere\"]"), "access.issuer[0].secrets[0]: file:nowhere: no such file"),
        (
            issuer("secrets = [\"env:NOTHING\"]"),
            "access.issuer[0].secrets[0]: env:NOTHING: there is no NOTHING",
        ),
        (
            issuer("secrets = [\"file:secret\", \"hunter2\"]"),
            "access.issuer[0].secrets[1]: the text in the configuration: the secret has 7 bytes, and HS256 takes 32",
        ),
        (issuer("secrets = [\"-----BEGIN PUBLIC KEY-----\"]"), "it is a key in PEM and no secret"),
        (issuer("secrets = [\"file:secret\"]\nalgorithms = [\"HS512\"]"), "HS512 takes 64"),
        (
            issuer("secrets = [\"file:secret\"]\nalgorithms = [\"RS256\"]"),
            "the key signs by HS256, HS384, HS512, and `algorithms`",
        ),
        (
            issuer("keys = [\"file:es256.pem\"]\nalgorithms = [\"RS256\"]"),
            "the key signs by ES256, and `algorithms`",
        ),
        (
            issuer("keys = [\"file:es256.pem\"]\nalgorithms = [\"none\"]"),
            "access.issuer[0].algorithms[0]: `none` is no algorithm",
        ),
        (
            issuer("keys = [\"file:secret\"]"),
            "access.issuer[0].keys[0]: file:secret: it is no public key in PEM",
        ),
        (issuer("keys = [\"-----BEGIN PRIVATE KEY-----\"]"), "it is a private key"),
        (issuer("keys = [\"-----BEGIN CERTIFICATE-----\"]"), "it is a certificate"),
        (issuer("jwks = \"ftp://x\""), "access.issuer[0].jwks: it is an https URL"),
        (issuer("jwks = \"https://x/{iss}\""), "access.issuer[0].jwks: it is one fixed URL"),
        (issuer("subject = \"\"\njwks = \"https://x\""), "access.issuer[0].subject:"),
        (rule("who = \"all\"\nsubscribe = [\"a\"]"), "access.rule[0].who: `who` is"),
        (
            rule("who = \"issuer:j\"\nsubscribe = [\"a\"]"),
            "access.rule[0].who: no `[[access.issuer]]` has the issuer `j`",
        ),
        (rule("who = \"any\""), "access.rule[0]: the rule grants nothing"),
        (
            rule("who = \"any\"\nsubscribe = [\"a\", \"b*\"]"),
            "access.rule[0].subscribe[1]: a wildcard is a whole segment",
        ),
        (
            rule("who = \"anonymous\"\nsubscribe = [\"{sub}\"]"),
            "access.rule[0].subscribe[0]: those whom the rule is for have no claims",
        ),
        (rule("who = \"key:x\"\nsubscribe = [\"{sub}\"]"), "have no claims"),
        (rule("who = \"any\"\npublish = [\"$sys/x\"]"), "access.rule[0].publish[0]: no client publishes"),
        (
            "[hook]\nurl = \"http://x\"\ntopics = []\nactions = [\"publish\"]".to_owned(),
            "access.hook: it is asked about no topic",
        ),
        (
            "[hook]\nurl = \"http://x\"\ntopics = [\"a\"]\nactions = [\"read\"]".to_owned(),
            "access.hook.actions[0]:",
        ),
        ("[hook]\nurl = \"x\"\ntopics = [\"a\"]\nactions = [\"publish\"]".to_owned(), "access.hook.url:"),
        (
            "[hook]\nurl = \"http://x\"\ntopics = [\"a\"]\nactions = [\"publish\"]\non_error = \"maybe\""
                .to_owned(),
            "unknown variant `maybe`",
        ),
        ("[trusted_header]\nname = \"a:\"\nfrom = [\"::1\"]".to_owned(), "access.trusted_header.name:"),
        (
            "[trusted_header]\nname = \"a\"\nfrom = []".to_owned(),
            "access.trusted_header.from: nobody is believed",
        ),
        (
            "[trusted_header]\nname = \"a\"\nfrom = [\"10.0.0.0/33\"]".to_owned(),
            "`10.0.0.0/33` is no address",
        ),
    ];
    for (section, expected) in cases {
        let problem = try_access(&section).err().unwrap_or_else(|| panic!("taken:\n{section}"));
        assert!(problem.contains(expected), "{section}\n  expected {expected}\n  actual {problem}");
        assert!(!problem.contains("hunter2"), "a secret is told: {problem}");
    }
}

#[test]
fn a_source_says_where_and_never_what() {
    let source = |text: &str| text.parse::<Source>().unwrap();
    assert_eq!(source("file:/run/secrets/a"), Source::File("/run/secrets/a".into()));
    assert_eq!(source("env:A"), Source::Env("A".into()));
    let inline = source("hunter2:x");
    assert_eq!(inline, Source::Inline("hunter2:x".into()));
    assert!(!format!("{inline:?} {inline}").contains("hunter2"));
}
