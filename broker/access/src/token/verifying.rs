//! Keys that verify signatures, each bound to the algorithms of its own type: a public key is never taken for a secret, and
//! an elliptic curve never for another.

use std::sync::LazyLock;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, aws_lc},
};

/// The cryptography, named rather than looked up: jsonwebtoken panics at the first token where none is installed for the
/// process, or two are built in. So a build without it doesn't compile.
pub(super) static PROVIDER: LazyLock<&CryptoProvider> = LazyLock::new(|| &aws_lc::DEFAULT_PROVIDER);

/// One key.
pub(crate) struct VerifyingKey {
    /// Its id, as its issuer publishes it.
    pub(crate) id: Option<Box<str>>,
    /// The algorithms that it verifies: never empty.
    pub(crate) algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a key is not used. No variant has any of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A secret that could be guessed.
    #[error("the secret has {bytes} bytes, and {algorithm} takes {least} at least (RFC 7518 §3.2)")]
    ShortSecret {
        /// How long it is.
        bytes: usize,
        /// For which algorithm.
        algorithm: &'static str,
        /// How long it has to be.
        least: usize,
    },
    /// No PEM, or nothing in it that is known.
    #[error("it is no public key in PEM of a type that is known: RSA, P-256, P-384, Ed25519")]
    NotPem,
    /// A key in PEM where a secret is expected: anybody who has a public key could sign by it.
    #[error("it is a key in PEM and no secret: it belongs into `keys`")]
    PemAsSecret,
    /// A private key: it doesn't belong here.
    #[error("it is a private key, which the issuer alone should have: give its public key")]
    Private,
    /// A certificate.
    #[error("it is a certificate: give its public key (`openssl x509 -pubkey -noout`)")]
    Certificate,
    /// More than one, of which only the first would count.
    #[error("there are several in one text: give each its own")]
    Several,
    /// Too small or too large a modulus.
    #[error("the RSA key has {0} bits, and 2,048 to 8,192 are accepted")]
    RsaSize(usize),
    /// Not a point of its curve, or the like.
    #[error("the key is damaged")]
    Damaged,
    /// A key of a type that is not known, or for something else than signatures.
    #[error("it is no key for signatures of a type that is known")]
    Unsupported,
    /// A shared secret where public keys are.
    #[error("it is a shared secret, and what is published is none")]
    PublishedSecret,
    /// The issuer is pinned to other algorithms.
    #[error("the key signs by {own}, and `algorithms` doesn't have that")]
    NotPinned {
        /// The algorithms that it could be used for.
        own: String,
    },
}

impl VerifyingKey {
    /// A shared secret.
    pub(crate) fn secret(secret: &[u8], pinned: &[Algorithm]) -> Result<Self, KeyFault> {
        if secret.starts_with(b"-----BEGIN ") {
            return Err(KeyFault::PemAsSecret);
        }
        let all = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        let algorithms = pick(&all, pinned)?;
        for algorithm in &algorithms {
            let least = match algorithm {
                Algorithm::HS512 => 64,
                Algorithm::HS384 => 48,
                _ => 32,
            };
            if secret.len() < least {
                let algorithm = name_of(*algorithm);
                return Err(KeyFault::ShortSecret { bytes: secret.len(), algorithm, least });
            }
        }
        let key = DecodingKey::from_secret(secret).map_err(|_| KeyFault::Damaged)?;
        Ok(Self { id: None, algorithms, key })
    }

    /// A public key in PEM.
    pub(crate) fn pem(pem: &[u8], pinned: &[Algorithm]) -> Result<Self, KeyFault> {
        let text = str::from_utf8(pem).map_err(|_| KeyFault::NotPem)?;
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyFault::Private);
        }
        if text.contains("-----BEGIN CERTIFICATE-----") {
            return Err(KeyFault::Certificate);
        }
        if text.matches("-----BEGIN ").count() > 1 {
            return Err(KeyFault::Several);
        }
        let key = DecodingKey::from_ec_pem(pem)
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .or_else(|_| DecodingKey::from_rsa_pem(pem))
            .map_err(|_| KeyFault::NotPem)?;
        Self::public(key, pinned)
    }

    /// A public key of whatever type it is.
    pub(crate) fn public(key: DecodingKey, pinned: &[Algorithm]) -> Result<Self, KeyFault> {
        let algorithms = pick(algorithms_of(&key)?, pinned)?;
        Ok(Self { id: None, algorithms, key })
    }

    /// Whether another is the same, for the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let bytes = |key: &Self| match key.key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => bytes.clone(),
            DecodingKeyKind::RsaModulusExponent { n, .. } => n.clone(),
        };
        self.id == other.id && self.algorithms == other.algorithms && bytes(self) == bytes(other)
    }

    /// Whether it made the signature of a message. An algorithm that it isn't bound to is none of its.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.contains(&algorithm) {
            return false;
        }
        let verifier = (PROVIDER.verifier_factory)(&algorithm, &self.key);
        verifier.is_ok_and(|verifier| verifier.verify(message, &signature.to_vec()).is_ok())
    }
}

/// Those of a key's algorithms that its issuer is pinned to; the first, if it isn't.
fn pick(all: &[Algorithm], pinned: &[Algorithm]) -> Result<Vec<Algorithm>, KeyFault> {
    if pinned.is_empty() {
        return Ok(all.iter().take(1).copied().collect());
    }
    let picked: Vec<Algorithm> = all.iter().filter(|algorithm| pinned.contains(algorithm)).copied().collect();
    if picked.is_empty() { Err(KeyFault::NotPinned { own: list_of(all) }) } else { Ok(picked) }
}

/// The algorithms of a public key, the usual first. Damaged and weak ones are found here and not at the first token.
fn algorithms_of(key: &DecodingKey) -> Result<&'static [Algorithm], KeyFault> {
    let check = |kind: &'static dyn VerificationAlgorithm| {
        let bytes = key.try_get_as_bytes().map_err(|_| KeyFault::Damaged)?;
        ParsedPublicKey::new(kind, bytes).map_err(|_| KeyFault::Damaged)
    };
    match key.family() {
        AlgorithmFamily::Hmac => Err(KeyFault::PublishedSecret),
        AlgorithmFamily::Ed => check(&ED25519).map(|_| &[Algorithm::EdDSA][..]),
        AlgorithmFamily::Ec => match key.try_get_as_bytes().map_or(0, <[u8]>::len) {
            65 => check(&ECDSA_P256_SHA256_FIXED).map(|_| &[Algorithm::ES256][..]),
            97 => check(&ECDSA_P384_SHA384_FIXED).map(|_| &[Algorithm::ES384][..]),
            _ => Err(KeyFault::Unsupported),
        },
        AlgorithmFamily::Rsa => {
            let modulus = match key.kind() {
                DecodingKeyKind::RsaModulusExponent { n, .. } => n.clone(),
                DecodingKeyKind::SecretOrDer(der) => {
                    (PROVIDER.key_utils.rsa_pub_components_from_public_key)(der)
                        .map_err(|_| KeyFault::Damaged)?
                        .0
                }
            };
            match bits_of(&modulus) {
                2048..=8192 => Ok(AlgorithmFamily::Rsa.algorithms()),
                bits => Err(KeyFault::RsaSize(bits)),
            }
        }
    }
}

/// The length of a number.
fn bits_of(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let top = number.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    (number.len() - zeros) * 8 - top
}

/// The algorithm of this name. `Ed25519` is the name that later replaced `EdDSA` for this curve (RFC 9864 §2.2).
pub(crate) fn algorithm_named(name: &str) -> Option<Algorithm> {
    if name == "Ed25519" { Some(Algorithm::EdDSA) } else { name.parse().ok() }
}

/// The name of an algorithm, as tokens have it.
pub(crate) const fn name_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::HS384 => "HS384",
        Algorithm::HS512 => "HS512",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::RS256 => "RS256",
        Algorithm::RS384 => "RS384",
        Algorithm::RS512 => "RS512",
        Algorithm::PS256 => "PS256",
        Algorithm::PS384 => "PS384",
        Algorithm::PS512 => "PS512",
        Algorithm::EdDSA => "EdDSA",
        // The enum is open; a name that we don't know is none that a key of ours is bound to.
        _ => "another algorithm",
    }
}

/// The names of some, for a sentence.
pub(crate) fn list_of(algorithms: &[Algorithm]) -> String {
    let names: Vec<&str> = algorithms.iter().map(|algorithm| name_of(*algorithm)).collect();
    names.join(", ")
}

/// Bytes in base64url without padding, the one way that tokens and JWKs have (RFC 7515 §2).
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
