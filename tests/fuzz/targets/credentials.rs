//! Tokens, keys, documents of keys, answers of the hook, requests for keys, and the section of the configuration. Nothing that is
//! made up is a credential.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tailwire_access::{Access, HookAnswer, KeyRequest, config::AccessConfig, inspect};
use tailwire_model::Timestamp;

const SECTION: &str = r#"
audience = "https://rt.example"
[[issuer]]
issuer = "https://app.example"
secrets = ["a-secret-of-the-tests-of-at-least-32-bytes"]
[[issuer]]
issuer = "https://id.example"
jwks = "https://id.example/keys"
[[rule]]
who = "any"
subscribe = ["users/{sub}/**"]
"#;

static ACCESS: LazyLock<Access> = LazyLock::new(|| access(SECTION).expect("it is sound"));

fn access(text: &str) -> Option<Access> {
    let config: AccessConfig = toml::from_str(text).ok()?;
    Access::new(&config, &mut |_| Ok(b"a-secret-of-the-tests-of-at-least-32-bytes".to_vec())).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, body)) = bytes.split_first() else { return };
    let now = Timestamp(1_764_000_000_000);
    let text = std::str::from_utf8(body).ok();
    match kind % 5 {
        0 => {
            if let Some(text) = text {
                assert!(ACCESS.bearer(text, now).is_err(), "{text}");
                let _ = inspect(text);
            }
        }
        1 => _ = ACCESS.set_jwks("https://id.example", body),
        2 => _ = HookAnswer::parse(body),
        3 => _ = KeyRequest::parse(body, now),
        _ => _ = text.and_then(access),
    }
});
