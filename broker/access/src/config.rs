//! The section `[access]` of the configuration, as written. Unknown keys are refused. Secrets and keys are named here and
//! read by the server: this crate reads no file and no variable.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};
use tailwire_model::Network;

/// The section `[access]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// The audience that tokens have to name in `aud`. Without it, the server puts its first public URL here.
    pub audience: Option<String>,
    /// How far the clocks of issuers and of the broker may be apart.
    pub leeway_seconds: u64,
    /// The cookie that carries a token for browsers; empty is none.
    pub cookie: String,
    /// The issuers of tokens.
    pub issuer: Vec<IssuerConfig>,
    /// The rules: grants, and to whom.
    pub rule: Vec<RuleConfig>,
    /// An application that is asked.
    pub hook: Option<HookConfig>,
    /// A header by which a proxy names the user.
    pub trusted_header: Option<TrustedHeaderConfig>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            audience: None,
            leeway_seconds: 30,
            cookie: "__Host-tailwire".to_owned(),
            issuer: Vec::new(),
            rule: Vec::new(),
            hook: None,
            trusted_header: None,
        }
    }
}

/// One entry of `[[access.issuer]]`: exactly one of `secrets`, `keys` and `jwks`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The claim `iss`, to the letter.
    pub issuer: String,
    /// Shared secrets, for HS256: a list is rotation.
    #[serde(default)]
    pub secrets: Vec<Source>,
    /// Public keys in PEM.
    #[serde(default)]
    pub keys: Vec<Source>,
    /// Where the issuer publishes its keys.
    #[serde(default)]
    pub jwks: Option<String>,
    /// The algorithms that are accepted; by default the usual one of each key.
    #[serde(default)]
    pub algorithms: Vec<String>,
    /// The claim that has the grants; empty is none.
    #[serde(default = "grants_claim")]
    pub grants: String,
    /// The claim that names the holder.
    #[serde(default = "subject_claim")]
    pub subject: String,
}

fn grants_claim() -> String {
    "tailwire".to_owned()
}

fn subject_claim() -> String {
    "sub".to_owned()
}

/// One entry of `[[access.rule]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// See [`Who`](crate::Who).
    pub who: String,
    /// Patterns, with claims in them.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// See `subscribe`.
    #[serde(default)]
    pub publish: Vec<String>,
    /// See `subscribe`.
    #[serde(default)]
    pub manage: Vec<String>,
    /// See `subscribe`.
    #[serde(default)]
    pub presence: Vec<String>,
}

/// The section `[access.hook]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// Where the application answers.
    pub url: String,
    /// Topics and patterns that it is asked about.
    pub topics: Vec<String>,
    /// Actions that it is asked about.
    pub actions: Vec<String>,
    /// Headers of the request that it gets.
    #[serde(default)]
    pub headers: Vec<String>,
    /// How long an answer may take.
    #[serde(default = "hook_timeout")]
    pub timeout_ms: u64,
    /// How long an answer holds.
    #[serde(default = "hook_age")]
    pub max_age_seconds: u64,
    /// The decision without an answer.
    #[serde(default)]
    pub on_error: OnError,
    /// Signs what is asked.
    #[serde(default)]
    pub secret: Option<Source>,
}

const fn hook_timeout() -> u64 {
    1000
}

const fn hook_age() -> u64 {
    60
}

/// The decision when the hook does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Nothing is granted by it.
    #[default]
    Deny,
    /// The request is granted.
    Allow,
}

/// The section `[access.trusted_header]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedHeaderConfig {
    /// The header.
    pub name: String,
    /// Peers that are believed.
    #[serde(deserialize_with = "networks")]
    pub from: Vec<Network>,
}

/// Where a secret or key is: `file:PATH`, `env:NAME`, or the text itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The text itself.
    Inline(String),
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
}

impl Source {
    /// The secret in what was read from here: a file's last line break is the editor's.
    pub fn secret<'a>(&self, content: &'a [u8]) -> &'a [u8] {
        match self {
            Self::File(_) => {
                let content = content.strip_suffix(b"\n").unwrap_or(content);
                content.strip_suffix(b"\r").unwrap_or(content)
            }
            Self::Inline(_) | Self::Env(_) => content,
        }
    }
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            Some(("file", path)) => Self::File(path.into()),
            Some(("env", name)) => Self::Env(name.to_owned()),
            _ => Self::Inline(text.to_owned()),
        })
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Says where, never what.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("the text in the configuration"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Network>, D::Error> {
    let all = Vec::<String>::deserialize(deserializer)?;
    all.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}
