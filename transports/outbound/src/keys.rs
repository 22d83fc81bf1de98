//! Documents of keys (JWKS, RFC 7517), as issuers publish them.

use std::time::Duration;

use tailwire_model::limits::JWKS_BYTES_MAX;

use crate::agent;

/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gets an issuer's keys, on a thread that may wait.
///
/// # Errors
/// Why not, for the log.
pub fn fetch_keys(url: &str) -> Result<Vec<u8>, String> {
    let mut answer = agent(PATIENCE).get(url).call().map_err(|error| error.to_string())?;
    if answer.status().as_u16() != 200 {
        return Err(format!("the answer is {}", answer.status().as_u16()));
    }
    let body = answer.body_mut().with_config().limit(JWKS_BYTES_MAX as u64 + 1);
    body.read_to_vec().map_err(|error| error.to_string())
}
