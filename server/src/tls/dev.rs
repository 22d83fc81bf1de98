//! A certificate for trying TLS on one machine: self-signed, kept in the data folder so that a client that trusts it once
//! trusts it after a restart.

use std::path::Path;

use super::{TlsError, files};
use crate::config::CertificateFiles;

/// The folder beside the log.
const FOLDER: &str = "tls-dev";

/// The files of the certificate, made if there are none.
///
/// # Errors
/// When they can't be written.
pub(super) fn dev_certificate(data: &Path) -> Result<CertificateFiles, TlsError> {
    let folder = data.join(FOLDER);
    let own = CertificateFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    if own.cert.exists() && own.key.exists() {
        return Ok(own);
    }
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made =
        rcgen::generate_simple_self_signed(names).map_err(|error| TlsError::Config(error.to_string()))?;
    let written = files::replace(&own.key, &made.signing_key.serialize_pem(), 0o600)
        .and_then(|()| files::replace(&own.cert, &made.cert.pem(), 0o644));
    written.map_err(|error| TlsError::file(&folder, crate::machine::describe(&error)))?;
    Ok(own)
}
