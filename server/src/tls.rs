//! TLS of the listeners: certificates from files, chosen by the name that a client asks for, and read again when they change.

mod acme;
mod certificates;
mod dev;
mod files;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use self::{acme::Acme, certificates::Certificates};
use crate::{
    config::{CertificateFiles, TlsSettings},
    machine,
};

/// By which an authority asks for a proof (RFC 8737 §3).
const ACME_PROTOCOL: &[u8] = b"acme-tls/1";
/// Application protocols (RFC 7301), the preferred one first.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", ACME_PROTOCOL];

/// A certificate's files, and whether there may be none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PairFiles {
    files: CertificateFiles,
    /// Whether the broker itself gets the certificate.
    is_made_later: bool,
}

/// Why TLS can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("TLS file {}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    #[error("TLS: {0}")]
    Config(String),
    #[error("ACME: {0}")]
    Acme(String),
}

impl TlsError {
    fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }
}

/// TLS as it runs.
pub(crate) struct ListenerTls {
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
    /// The certificate that a client has to trust, where the broker made it itself for trying.
    dev_certificate: Option<PathBuf>,
    acme: Option<Acme>,
}

impl ListenerTls {
    /// Reads the files, and makes those that are to be made in the data folder.
    ///
    /// # Errors
    /// The first thing that is wrong with any of them.
    pub(crate) fn load(settings: &TlsSettings, data: &Path) -> Result<Self, TlsError> {
        let given = |files: &CertificateFiles| PairFiles { files: files.clone(), is_made_later: false };
        let mut pairs: Vec<_> = settings.certificates.iter().map(given).collect();
        let dev = settings.is_dev.then(|| dev::dev_certificate(data)).transpose()?;
        pairs.extend(dev.iter().map(given));
        let acme = settings.acme.clone().map(|settings| Acme::new(settings, data));
        pairs.extend(acme.iter().map(|acme| PairFiles { files: acme.files(), is_made_later: true }));
        let certificates = Certificates::load(pairs)?;
        let config = server_config(settings, certificates.clone())?;
        Ok(Self { certificates, config, dev_certificate: dev.map(|files| files.cert), acme })
    }

    /// Reads the files that others make, and nothing else.
    ///
    /// # Errors
    /// The first thing that is wrong with any of them.
    pub(crate) fn check(settings: &TlsSettings) -> Result<(), TlsError> {
        let given = |files: &CertificateFiles| PairFiles { files: files.clone(), is_made_later: false };
        let certificates = Certificates::load(settings.certificates.iter().map(given).collect())?;
        server_config(settings, certificates).map(drop)
    }

    /// The configuration of listeners.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// The certificate that was made for trying, if one was.
    pub(crate) fn dev_certificate(&self) -> Option<&Path> {
        self.dev_certificate.as_deref()
    }

    /// Reads the certificates again when they change, and has those renewed that the broker gets itself, for as long as the
    /// runtime lives that this runs on.
    pub(crate) fn keep_current(&self) {
        tokio::spawn(self.certificates.clone().watch());
        if let Some(acme) = self.acme.clone() {
            tokio::spawn(acme.keep(self.certificates.clone()));
        }
    }

    /// Reads the certificates again, when it is called.
    pub(crate) fn reload(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let certificates = self.certificates.clone();
        move || certificates.reload().map(drop).map_err(|error| error.to_string())
    }
}

fn server_config(
    settings: &TlsSettings,
    certificates: Arc<Certificates>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let config = |error: rustls::Error| TlsError::Config(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(config)?;
    let builder = match client_verifier(settings, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut own = builder.with_cert_resolver(certificates);
    own.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    // One ticket that the client keeps, rather than a session that the broker keeps.
    own.session_storage = Arc::new(NoServerSessionStorage {});
    own.ticketer = aws_lc_rs::Ticketer::new().map_err(config)?;
    own.send_tls13_tickets = 1;
    Ok(Arc::new(own))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(path) = &settings.client_ca else { return Ok(None) };
    let roots = Arc::new(roots(path)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    if !settings.requires_client {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map(Some).map_err(|error| TlsError::file(path, error.to_string()))
}

/// The authorities of a PEM file.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in chain(path, &read(path)?)? {
        roots.add(authority).map_err(|error| TlsError::file(path, error.to_string()))?;
    }
    Ok(roots)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::file(path, machine::describe(&error)))
}

/// The certificates of a PEM file; at least one.
pub(crate) fn chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| TlsError::file(path, format!("is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(TlsError::file(path, "has no certificate: it is PEM, with BEGIN CERTIFICATE"));
    }
    Ok(chain)
}

/// The private key of a PEM file.
pub(crate) fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| TlsError::file(path, format!("has no private key in PEM: {error}")))
}
