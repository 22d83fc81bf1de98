//! The certificates that listeners show: which one a client gets, and how they are replaced while the broker runs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use webpki::EndEntityCert;

use super::{ACME_PROTOCOL, PairFiles, TlsError, chain, private_key, provider, read};
use crate::config::CertificateFiles;

/// How often the files are looked at. Renewals replace them weeks before the old ones end.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Certificates {
    pairs: Vec<PairFiles>,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Loaded>,
    /// The proof of names for an ACME authority, while it asks.
    challenges: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

/// The content of the files, and the certificate that it makes.
#[derive(Debug)]
struct Loaded {
    contents: Vec<[Vec<u8>; 2]>,
    keys: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// The first thing that is wrong with any of them.
    pub(super) fn load(pairs: Vec<PairFiles>) -> Result<Arc<Self>, TlsError> {
        let provider = provider();
        let contents = contents(&pairs)?;
        let keys = certified(&pairs, &contents, &provider)?;
        let current = ArcSwap::from_pointee(Loaded { contents, keys });
        Ok(Arc::new(Self { pairs, provider, current, challenges: Mutex::default() }))
    }

    /// Reads the files again. Where they are sound and others than before, new connections get them; open ones keep theirs.
    ///
    /// # Errors
    /// The fault in them: those that were read before stay.
    pub(super) fn reload(&self) -> Result<bool, TlsError> {
        let contents = contents(&self.pairs)?;
        if contents == self.current.load().contents {
            return Ok(false);
        }
        let keys = certified(&self.pairs, &contents, &self.provider)?;
        self.current.store(Arc::new(Loaded { contents, keys }));
        Ok(true)
    }

    /// Looks at the files from time to time, for ever. A pair that is replaced file by file doesn't fit in between: what is
    /// wrong is logged once, until it changes.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut told = String::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // On a thread that may wait: the files may be a network away.
            let own = self.clone();
            let Ok(reloaded) = tokio::task::spawn_blocking(move || own.reload()).await else { continue };
            match reloaded {
                Ok(changed) => {
                    if changed {
                        tracing::info!("the TLS certificates were read again");
                    }
                    told.clear();
                }
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        tracing::error!(%error, "the TLS certificates can't be read again; the old ones stay");
                        told = text;
                    }
                }
            }
        }
    }
}

impl Certificates {
    /// Shows a certificate to an authority that asks for a name.
    pub(super) fn set_challenge(&self, name: &str, key: Arc<CertifiedKey>) {
        self.challenges.lock().insert(name.to_owned(), key);
    }

    pub(super) fn clear_challenges(&self) {
        self.challenges.lock().clear();
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if client.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_PROTOCOL)) {
            return self.challenges.lock().get(client.server_name()?).cloned();
        }
        let current = self.current.load();
        let named = client.server_name().and_then(|name| {
            current.keys.iter().find(|key| key.cert.first().is_some_and(|own| is_valid_for(own, name)))
        });
        named.or(current.keys.first()).cloned()
    }
}

/// Whether a certificate is for a name.
pub(super) fn is_valid_for(own: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else { return false };
    EndEntityCert::try_from(own).is_ok_and(|own| own.verify_is_valid_for_subject_name(&name).is_ok())
}

/// The content of the files. Of a pair that is yet to be made, nothing.
fn contents(pairs: &[PairFiles]) -> Result<Vec<[Vec<u8>; 2]>, TlsError> {
    let one = |PairFiles { files, is_made_later }: &PairFiles| {
        if *is_made_later && !files.cert.exists() {
            return Ok([Vec::new(), Vec::new()]);
        }
        Ok([read(&files.cert)?, read(&files.key)?])
    };
    pairs.iter().map(one).collect()
}

fn certified(
    pairs: &[PairFiles],
    contents: &[[Vec<u8>; 2]],
    provider: &CryptoProvider,
) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
    let made =
        pairs.iter().zip(contents).filter(|(pair, [cert, _])| !(pair.is_made_later && cert.is_empty()));
    made.map(|(pair, [cert, key])| certified_key(&pair.files, cert, key, provider).map(Arc::new)).collect()
}

fn certified_key(
    files: &CertificateFiles,
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = chain(&files.cert, cert)?;
    let key = provider
        .key_provider
        .load_private_key(private_key(&files.key, key)?)
        .map_err(|error| TlsError::file(&files.key, format!("is no key that TLS can use: {error}")))?;
    let own = CertifiedKey::new(chain, key);
    match own.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(own),
        Err(_) => Err(TlsError::file(
            &files.key,
            format!("is not the key of the certificate in {}", files.cert.display()),
        )),
    }
}
