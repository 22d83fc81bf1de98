//! Signed requests, as in Standard Webhooks (version 1): an HMAC over the id, the time and the body, so that the application
//! can tell that it is the broker who asks, and that it asks now. Libraries that verify it are there for most languages.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

/// Begins a secret that is written in base64, as such libraries give it out.
const ENCODED: &[u8] = b"whsec_";

/// The key that a configured secret is.
pub(crate) fn key(secret: &[u8]) -> hmac::Key {
    let encoded = secret.strip_prefix(ENCODED).and_then(|text| STANDARD.decode(text).ok());
    hmac::Key::new(hmac::HMAC_SHA256, encoded.as_deref().unwrap_or(secret))
}

/// The value of `webhook-signature`. `at_s` is the time in seconds.
pub(crate) fn sign(key: &hmac::Key, id: &str, at_s: u64, body: &str) -> String {
    let signature = hmac::sign(key, format!("{id}.{at_s}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let key = key(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
