//! Issuers with keys that are made as the tests begin, and tokens of whatever header and claims a test wants.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair, RsaPublicKeyComponents,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign};
use serde_json::{Value, json};
use tailwire_access::{Access, config::AccessConfig, config::Source};
use tailwire_model::Timestamp;

/// The time at which tokens of the tests are looked at, in seconds and as a time.
pub(crate) const NOW_SECONDS: u64 = 1_800_000_000;
pub(crate) const NOW: Timestamp = Timestamp(NOW_SECONDS * 1000);
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const AUDIENCE: &str = "https://rt.example.com";

/// A key pair of an issuer: what signs, and what is given to the broker.
pub(crate) struct Pair {
    pub(crate) algorithm: Algorithm,
    pub(crate) signing: EncodingKey,
    pub(crate) public_pem: String,
    /// As a JWK, without `kid`.
    pub(crate) jwk: Value,
}

pub(crate) static ES256: LazyLock<Pair> = LazyLock::new(|| ec(Algorithm::ES256));
pub(crate) static ES384: LazyLock<Pair> = LazyLock::new(|| ec(Algorithm::ES384));
pub(crate) static OTHER_ES256: LazyLock<Pair> = LazyLock::new(|| ec(Algorithm::ES256));
pub(crate) static EDDSA: LazyLock<Pair> = LazyLock::new(ed);
pub(crate) static RS256: LazyLock<Pair> = LazyLock::new(rsa);

fn ec(algorithm: Algorithm) -> Pair {
    let (kind, curve, length) = match algorithm {
        Algorithm::ES256 => (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32),
        _ => (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48),
    };
    let pair = EcdsaKeyPair::generate(kind).unwrap();
    let point = pair.public_key().as_ref()[1..].to_vec();
    let (x, y) = point.split_at(length);
    Pair {
        algorithm,
        signing: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()),
        public_pem: pem(AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref()),
        jwk: json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)}),
    }
}

fn ed() -> Pair {
    let pair = Ed25519KeyPair::generate().unwrap();
    Pair {
        algorithm: Algorithm::EdDSA,
        signing: EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()),
        public_pem: pem(AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref()),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref())}),
    }
}

fn rsa() -> Pair {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let private = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(pkcs8.as_ref())
    );
    Pair {
        algorithm: Algorithm::RS256,
        signing: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(),
        public_pem: pem(AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref()),
        jwk: json!({"kty": "RSA", "n": base64url(&public.n), "e": base64url(&public.e)}),
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key pair or secret by which tokens of a test are signed.
pub(crate) fn signing_key(name: &str) -> (EncodingKey, Algorithm) {
    let pair = match name {
        "ES256" => &*ES256,
        "ES384" => &*ES384,
        "other ES256" => &*OTHER_ES256,
        "EdDSA" => &*EDDSA,
        "RS256" => &*RS256,
        secret => {
            let bytes = if secret == "HS256" { SECRET.as_bytes() } else { secret.as_bytes() };
            return (EncodingKey::from_secret(bytes).unwrap(), Algorithm::HS256);
        }
    };
    (pair.signing.clone(), pair.algorithm)
}

/// A token of these parts, signed as the key does it whatever the header says.
pub(crate) fn signed_parts(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A token of JSON, signed by the key of this name.
pub(crate) fn signed(name: &str, header: &Value, claims: &Value) -> String {
    let (key, algorithm) = signing_key(name);
    signed_parts(&header.to_string(), &claims.to_string(), &key, algorithm)
}

/// The members of one object over those of another; null takes one out.
pub(crate) fn merged(base: Value, over: &Value) -> Value {
    let Value::Object(mut members) = base else { panic!("an object: {base}") };
    for (name, value) in over.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    Value::Object(members)
}

/// Claims that are right for the issuer of a name, with others over them.
pub(crate) fn claims(issuer: &str, over: &Value) -> Value {
    let right = json!({"iss": issuer, "aud": AUDIENCE, "sub": "alice", "exp": NOW_SECONDS + 60});
    merged(right, over)
}

/// A right token by HS256 of the issuer `hs`, but for these claims.
pub(crate) fn token(over: &Value) -> String {
    signed("HS256", &json!({"alg": "HS256", "typ": "JWT"}), &claims("hs", over))
}

/// The content of a source, where it is in the configuration itself or in a file that stands for a key of ours.
pub(crate) fn read(source: &Source) -> Result<Vec<u8>, String> {
    match source {
        Source::Inline(text) => Ok(text.clone().into_bytes()),
        Source::File(path) => match path.to_str() {
            Some("es256.pem") => Ok(ES256.public_pem.clone().into_bytes()),
            Some("es384.pem") => Ok(ES384.public_pem.clone().into_bytes()),
            Some("ed25519.pem") => Ok(EDDSA.public_pem.clone().into_bytes()),
            Some("rsa.pem") => Ok(RS256.public_pem.clone().into_bytes()),
            Some("secret") => Ok(format!("{SECRET}\n").into_bytes()),
            _ => Err("no such file".to_owned()),
        },
        Source::Env(name) => Err(format!("there is no {name}")),
    }
}

/// An issuer for each type of key.
pub(crate) const ISSUERS: &str = r#"
audience = "https://rt.example.com"
[[issuer]]
issuer = "hs"
secrets = ["file:secret"]
[[issuer]]
issuer = "es"
keys = ["file:es256.pem", "file:es384.pem"]
[[issuer]]
issuer = "rs"
keys = ["file:rsa.pem"]
algorithms = ["RS256", "PS256"]
[[issuer]]
issuer = "ed"
keys = ["file:ed25519.pem"]
subject = "email"
grants = "https://example.com/tailwire"
[[issuer]]
issuer = "fetched"
jwks = "https://issuer.example.com/jwks.json"
[trusted_header]
name = "X-Forwarded-User"
from = ["127.0.0.1"]
[hook]
url = "http://127.0.0.1:9000/tailwire"
topics = ["rooms/**"]
actions = ["subscribe", "publish"]
"#;

/// Access by a section `[access]`, without its head.
pub(crate) fn access(section: &str) -> Access {
    try_access(section).unwrap_or_else(|problem| panic!("{problem}"))
}

/// The same, or what is wrong with it.
pub(crate) fn try_access(section: &str) -> Result<Access, String> {
    let config: AccessConfig = toml::from_str(section).map_err(|error| error.message().to_owned())?;
    Access::new(&config, &mut read).map_err(|error| error.to_string())
}
