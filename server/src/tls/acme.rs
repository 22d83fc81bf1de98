//! Certificates from an authority that speaks ACME (RFC 8555), proven by TLS-ALPN-01 (RFC 8737) on the broker's own listener:
//! no port 80, no other service. Account and certificate stand in the data folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, LetsEncrypt, NewAccount,
    NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{pki_types::PrivateKeyDer, sign::CertifiedKey};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, certificates::Certificates, chain, files, provider, read};
use crate::config::{AcmeSettings, CertificateFiles, LETSENCRYPT, LETSENCRYPT_STAGING};

/// The folder beside the log.
const FOLDER: &str = "tls-acme";
/// How often it is looked whether the certificate is to be renewed.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// The pauses after failures: authorities limit how often one may fail.
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// How long an order may take.
const ORDER_TIME: Duration = Duration::from_secs(120);

/// The certificate that the broker gets itself.
#[derive(Debug, Clone)]
pub(super) struct Acme {
    settings: AcmeSettings,
    /// Where account and certificate are kept.
    folder: PathBuf,
}

impl Acme {
    pub(super) fn new(settings: AcmeSettings, data: &Path) -> Self {
        // Each authority has its own: an account of one is none of another's, and a certificate of a staging one is trusted by nobody.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let authority = settings.directory.trim_start_matches("https://");
        let authority = authority.replace(|c| !is_plain(c), "-");
        let folder = data.join(FOLDER).join(authority);
        Self { settings, folder }
    }

    /// Where the certificate is kept.
    pub(super) fn files(&self) -> CertificateFiles {
        CertificateFiles { cert: self.folder.join("cert.pem"), key: self.folder.join("key.pem") }
    }

    fn account_file(&self) -> PathBuf {
        self.folder.join("account.json")
    }

    fn directory(&self) -> String {
        match self.settings.directory.as_str() {
            LETSENCRYPT => LetsEncrypt::Production.url().to_owned(),
            LETSENCRYPT_STAGING => LetsEncrypt::Staging.url().to_owned(),
            url => url.to_owned(),
        }
    }

    /// Keeps the certificate valid, for ever: gets one where there is none for all the names, and renews it in the last third of
    /// its time.
    pub(super) async fn keep(self, certificates: Arc<Certificates>) {
        let mut pause = RETRY_MIN;
        loop {
            if !is_due(&self) {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            match obtain(&self, &certificates).await {
                Ok(()) => {
                    let domains = self.settings.domains.join(", ");
                    tracing::info!(domains, "got a certificate by ACME");
                    pause = RETRY_MIN;
                }
                Err(error) => {
                    tracing::error!(%error, again_in_s = pause.as_secs(), "got no certificate by ACME");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

/// Whether there is no certificate for all the names, or it is in the last third of its time.
fn is_due(acme: &Acme) -> bool {
    let path = acme.files().cert;
    let Ok(chain) = read(&path).and_then(|pem| chain(&path, &pem)) else { return true };
    let Some(own) = chain.first() else { return true };
    if !acme.settings.domains.iter().all(|domain| super::certificates::is_valid_for(own, domain)) {
        return true;
    }
    let Ok((_, parsed)) = X509Certificate::from_der(own) else { return true };
    let validity = parsed.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let now = x509_parser::time::ASN1Time::now().timestamp();
    now > until - (until - from) / 3
}

async fn obtain(acme: &Acme, certificates: &Certificates) -> Result<(), TlsError> {
    let account = account(acme).await?;
    let names: Vec<_> = acme.settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let ended = async {
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
                return Ok(Err("the authority doesn't offer TLS-ALPN-01".to_owned()));
            };
            let name = challenge.identifier().to_string();
            match proof(&name, challenge.key_authorization().digest().as_ref()) {
                Ok(key) => certificates.set_challenge(&name, Arc::new(key)),
                Err(error) => return Ok(Err(error.to_string())),
            }
            challenge.set_ready().await?;
        }
        let retries = RetryPolicy::new().timeout(ORDER_TIME);
        let status = order.poll_ready(&retries).await?;
        if status != OrderStatus::Ready {
            return Ok(Err(format!(
                "the order is {status:?}: the authority could not reach this listener by its names"
            )));
        }
        let key = order.finalize().await?;
        let cert = order.poll_certificate(&retries).await?;
        Ok(Ok((cert, key)))
    };
    let ended: Result<Result<_, String>, instant_acme::Error> = ended.await;
    certificates.clear_challenges();
    let (cert, key) = ended.map_err(|error| TlsError::Acme(error.to_string()))?.map_err(TlsError::Acme)?;
    let own = acme.files();
    let written =
        files::replace(&own.key, &key, 0o600).and_then(|()| files::replace(&own.cert, &cert, 0o644));
    written.map_err(|error| TlsError::file(&own.cert, crate::machine::describe(&error)))?;
    certificates.reload().map(drop)
}

/// The account in the data folder, or a new one.
async fn account(own: &Acme) -> Result<Account, TlsError> {
    let acme = |error: instant_acme::Error| TlsError::Acme(error.to_string());
    let builder = || match &own.settings.directory_ca {
        Some(root) => Account::builder_with_root(root),
        None => Account::builder(),
    };
    let path = own.account_file();
    match fs::read(&path) {
        Ok(text) => {
            let credentials: AccountCredentials = serde_json::from_slice(&text)
                .map_err(|error| TlsError::file(&path, format!("is no ACME account: {error}")))?;
            builder().map_err(acme)?.from_credentials(credentials).await.map_err(acme)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let contact: Vec<&str> = own.settings.contact.iter().map(String::as_str).collect();
            let new =
                NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
            let created = builder().map_err(acme)?.create(&new, own.directory(), None).await;
            let (account, credentials) = created.map_err(acme)?;
            let text =
                serde_json::to_string(&credentials).map_err(|error| TlsError::Acme(error.to_string()))?;
            files::replace(&path, &text, 0o600)
                .map_err(|error| TlsError::file(&path, crate::machine::describe(&error)))?;
            Ok(account)
        }
        Err(error) => Err(TlsError::file(&path, crate::machine::describe(&error))),
    }
}

/// The self-signed certificate by which a name is proven (RFC 8737 §3).
fn proof(name: &str, digest: &[u8]) -> Result<CertifiedKey, TlsError> {
    let config = |error: rcgen::Error| TlsError::Acme(error.to_string());
    let mut params = CertificateParams::new([name.to_owned()]).map_err(config)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(config)?;
    let cert = params.self_signed(&key).map_err(config)?;
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| TlsError::Acme(error.to_string()))?;
    let key =
        provider().key_provider.load_private_key(key).map_err(|error| TlsError::Acme(error.to_string()))?;
    Ok(CertifiedKey::new(vec![cert.der().clone()], key))
}
