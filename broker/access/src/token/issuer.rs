//! Issuers: who may sign tokens, with which keys and by which algorithms. Keys of issuers are never pooled.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use parking_lot::RwLock;
use tailwire_model::limits::ISSUER_KEYS_MAX;

use crate::{
    config::{IssuerConfig, Source},
    error::AccessError,
    granted::shortened,
    token::{
        error::TokenError,
        header::Header,
        jwks::{Jwks, JwksError},
        verifying::{KeyFault, VerifyingKey, algorithm_named, list_of, name_of},
    },
};

/// One issuer.
pub(crate) struct Issuer {
    pub(crate) name: Box<str>,
    /// The claim that has the grants.
    pub(crate) grants_claim: Option<Box<str>>,
    /// The claim that names the holder.
    pub(crate) subject_claim: Box<str>,
    /// Where its keys are fetched from, if they are.
    pub(crate) jwks: Option<Box<str>>,
    pinned: Vec<Algorithm>,
    /// None until they are known.
    keys: RwLock<Option<Arc<[VerifyingKey]>>>,
}

impl Issuer {
    /// Checks an issuer and its keys. `at` names it in errors; `read` gives what a source holds.
    pub(crate) fn new(
        at: &str,
        config: &IssuerConfig,
        read: &mut dyn FnMut(&Source) -> Result<Vec<u8>, String>,
    ) -> Result<Self, AccessError> {
        let fail = |key: &str, problem: String| AccessError::at(format!("{at}.{key}"), problem);
        if !super::claims::is_name(&config.issuer) {
            return Err(fail("issuer", "it is 1 to 255 bytes, the claim `iss` to the letter".to_owned()));
        }
        if config.subject.is_empty() {
            return Err(fail("subject", "it is the name of a claim, as `sub`".to_owned()));
        }
        let mut pinned = Vec::new();
        for (index, name) in config.algorithms.iter().enumerate() {
            let algorithm = algorithm_named(name).ok_or_else(|| {
                fail(&format!("algorithms[{index}]"), format!("`{name}` is no algorithm that is known"))
            })?;
            pinned.push(algorithm);
        }
        let kinds = [!config.secrets.is_empty(), !config.keys.is_empty(), config.jwks.is_some()];
        if kinds.iter().filter(|is_given| **is_given).count() != 1 {
            let problem = "an issuer has one of `secrets`, `keys` and `jwks`";
            return Err(AccessError::at(at.to_owned(), problem));
        }
        let keys = static_keys(at, config, &pinned, read)?;
        if let Some(url) = &config.jwks {
            check_url(url).map_err(|problem| fail("jwks", problem.to_owned()))?;
        }
        Ok(Self {
            name: config.issuer.as_str().into(),
            grants_claim: (!config.grants.is_empty()).then(|| config.grants.as_str().into()),
            subject_claim: config.subject.as_str().into(),
            jwks: config.jwks.as_deref().map(Into::into),
            pinned,
            keys: RwLock::new(keys.map(Into::into)),
        })
    }

    /// Takes the keys of a document in the place of those before. Says why some are not used, and whether a key that was
    /// there is gone, so that what it signed holds no more.
    pub(crate) fn set_jwks(&self, document: &[u8]) -> Result<(Vec<(String, KeyFault)>, bool), JwksError> {
        let Jwks { keys, skipped } = Jwks::parse(document, &self.pinned)?;
        let mut own = self.keys.write();
        let is_kept = |old: &VerifyingKey| keys.iter().any(|key| key.is_same(old));
        let lost = own.as_ref().is_some_and(|old| !old.iter().all(is_kept));
        *own = Some(keys.into());
        Ok((skipped, lost))
    }

    /// Takes over the fetched keys of the same issuer of an earlier configuration.
    pub(crate) fn inherit(&self, earlier: &Self) {
        if self.jwks.is_some() && self.jwks == earlier.jwks && self.pinned == earlier.pinned {
            self.keys.write().clone_from(&earlier.keys.read());
        }
    }

    /// Checks the signature of a message, by the key that the header names.
    pub(crate) fn verify(&self, header: &Header, message: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        let issuer = || self.name.to_string();
        let Some(keys) = self.keys.read().clone() else { return Err(TokenError::KeysNotLoaded(issuer())) };
        let algorithm = name_of(header.algorithm);
        if !keys.iter().any(|key| key.algorithms.contains(&header.algorithm)) {
            let mut allowed: Vec<Algorithm> = Vec::new();
            for own in keys.iter().flat_map(|key| &key.algorithms) {
                if !allowed.contains(own) {
                    allowed.push(*own);
                }
            }
            return Err(TokenError::AlgorithmNotAllowed {
                issuer: issuer(),
                algorithm,
                allowed: list_of(&allowed),
            });
        }
        // A key without an id may be meant by any. A key id that nobody has is a key that was rotated in or out.
        let is_meant = |key: &&VerifyingKey| match (&header.key_id, &key.id) {
            (Some(meant), Some(own)) => **meant == **own,
            _ => true,
        };
        let meant: Vec<&VerifyingKey> =
            keys.iter().filter(|key| key.algorithms.contains(&header.algorithm)).filter(is_meant).collect();
        if meant.is_empty() {
            let key_id = header.key_id.as_deref().map(shortened).unwrap_or_default();
            return Err(TokenError::UnknownKey { issuer: issuer(), key_id, is_fetched: self.jwks.is_some() });
        }
        if meant.iter().any(|key| key.verifies(header.algorithm, message, signature)) {
            return Ok(());
        }
        Err(TokenError::BadSignature { issuer: issuer(), algorithm, tried: meant.len() })
    }
}

/// The keys that the configuration has; none for an issuer whose keys are fetched.
fn static_keys(
    at: &str,
    config: &IssuerConfig,
    pinned: &[Algorithm],
    read: &mut dyn FnMut(&Source) -> Result<Vec<u8>, String>,
) -> Result<Option<Vec<VerifyingKey>>, AccessError> {
    let (name, sources) =
        if config.secrets.is_empty() { ("keys", &config.keys) } else { ("secrets", &config.secrets) };
    let mut keys = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let fail = |problem: String| {
            AccessError::at(format!("{at}.{name}[{index}]"), format!("{source}: {problem}"))
        };
        let content = read(source).map_err(fail)?;
        let key = if name == "keys" {
            VerifyingKey::pem(&content, pinned)
        } else {
            VerifyingKey::secret(source.secret(&content), pinned)
        };
        keys.push(key.map_err(|fault| fail(fault.to_string()))?);
    }
    if keys.len() > ISSUER_KEYS_MAX {
        return Err(AccessError::at(format!("{at}.{name}"), "an issuer has at most 32 keys"));
    }
    Ok((!keys.is_empty()).then_some(keys))
}

fn check_url(url: &str) -> Result<(), &'static str> {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err("it is an https URL");
    }
    if url.contains(['{', '}']) || url.chars().any(|c| c.is_control() || c == ' ') {
        return Err("it is one fixed URL: nothing of a token gets into it");
    }
    Ok(())
}
