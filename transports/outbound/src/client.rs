//! The HTTP client of the process.

use std::{sync::Arc, time::Duration};

/// A client of HTTP over TCP and TLS, by the cryptography of the whole process and the roots of Mozilla.
pub fn agent(patience: Duration) -> ureq::Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build();
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .max_redirects(0)
        // Nobody's environment says whom the broker asks.
        .proxy(None)
        .tls_config(tls);
    config.build().into()
}
