//! API keys: `twk_<id>_<secret>`. The id is public; the secret is 256 random bits, shown once and kept as its SHA-256:
//! there is nothing to guess, so a slow hash would slow down nobody but us. Keys are records of a compacted topic of the
//! log.

use std::collections::HashMap;

use data_encoding::BASE32_NOPAD;
use parking_lot::RwLock;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;
use tailwire_model::{Credential, Expiry, Grants, Identity, Principal, Timestamp, limits::KEYS_MAX};

use crate::{
    digest::{Digest, sha256},
    granted::{grants_of, json_of},
    records::{RecordError, text, time},
    token::object,
};

/// The prefix of every key, by which scanners of secrets know one.
const PREFIX: &str = "twk_";
const ID_BYTES: usize = 10;
const SECRET_BYTES: usize = 32;
/// Characters of base32 (RFC 4648 §6, in lower case): it has neither 0 nor 1, which look like letters.
const ID_CHARS: usize = 16;
const SECRET_CHARS: usize = 52;

/// A key as its holder has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: Box<str>,
    secret: [u8; SECRET_BYTES],
}

/// Why a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not in the form of one.
    #[error("it is no key: a key is `twk_`, 16 characters, `_`, and 52 characters, of a-z and 2-7")]
    Malformed,
    /// No record has this id. Also where one was removed.
    #[error("no key has the id `{0}`")]
    Unknown(Box<str>),
    /// The id is known and the secret isn't its.
    #[error("the secret is not that of the key `{0}`")]
    WrongSecret(Box<str>),
    /// The key was revoked.
    #[error("the key `{0}` was revoked")]
    Revoked(Box<str>),
    /// The key's time is over.
    #[error("the key `{id}` expired {} s ago by this clock", .ago_ms / 1000)]
    Expired {
        /// Which.
        id: Box<str>,
        /// How long ago.
        ago_ms: u64,
    },
}

impl KeyError {
    /// The stable code of the answer.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "token-expired",
            _ => "token-invalid",
        }
    }
}

impl Key {
    /// Whether a credential is meant to be a key, well-formed or not.
    pub fn is_meant(credential: &str) -> bool {
        credential.starts_with(PREFIX)
    }

    /// Parses a key. Each has one way to be written.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (id, secret) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(KeyError::Malformed)?;
        if id.len() != ID_CHARS || secret.len() != SECRET_CHARS {
            return Err(KeyError::Malformed);
        }
        decode(id).ok_or(KeyError::Malformed)?;
        let secret = decode(secret).and_then(|bytes| bytes.try_into().ok()).ok_or(KeyError::Malformed)?;
        Ok(Self { id: id.into(), secret })
    }

    /// The public part.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key as its holder keeps it: to be shown once, and not logged.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, encode(&self.secret))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.id)
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let is_spelled = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    // Refuses bits that stand for nothing, too.
    if is_spelled { BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok() } else { None }
}

/// A key that was just made: what its holder gets, and what the broker keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// For the holder.
    pub key: Key,
    /// For the log.
    pub record: AccessKeyRecord,
}

impl NewKey {
    /// How many random bytes a key takes.
    pub const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;

    /// Makes a key of random bytes, which have to come from the operating system.
    pub fn new(
        random: &[u8; Self::RANDOM_BYTES],
        name: &str,
        grants: Grants,
        now: Timestamp,
        expires: Option<Timestamp>,
    ) -> Self {
        let (id, secret_bytes) = random.split_at(ID_BYTES);
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(secret_bytes);
        let id: Box<str> = encode(id).into();
        let record = AccessKeyRecord {
            id: id.clone(),
            hash: sha256(&secret),
            name: name.to_owned(),
            grants,
            created: now,
            expires,
            is_revoked: false,
        };
        Self { key: Key { id, secret }, record }
    }
}

/// The broker's record of a key: the data of a message of `$access/keys`, whose `key` is the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeyRecord {
    /// The public part.
    pub id: Box<str>,
    /// The SHA-256 of the secret.
    pub hash: Digest,
    /// Its name, for people.
    pub name: String,
    /// Its own grants, beside the rules for it.
    pub grants: Grants,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Whether it was revoked. The record stays, so that a list shows it.
    pub is_revoked: bool,
}

impl AccessKeyRecord {
    /// The record as a message's data.
    pub fn to_json(&self) -> String {
        let mut members = json_of(&self.grants);
        members.insert("id".to_owned(), json!(self.id));
        members.insert("hash".to_owned(), json!(data_encoding::HEXLOWER.encode(&self.hash)));
        members.insert("name".to_owned(), json!(self.name));
        members.insert("created_ms".to_owned(), json!(self.created.0));
        if let Some(expires) = self.expires {
            members.insert("expires_ms".to_owned(), json!(expires.0));
        }
        if self.is_revoked {
            members.insert("revoked".to_owned(), json!(true));
        }
        Value::Object(members).to_string()
    }

    /// Reads a record. Members that are not known are of a later version and ignored.
    ///
    /// # Errors
    /// [`RecordError`], with what is wrong.
    pub fn parse(data: &[u8]) -> Result<Self, RecordError> {
        let members = object(data).map_err(|error| RecordError(error.to_string()))?;
        let id = text(&members, "id")?;
        if id.len() != ID_CHARS || decode(id).is_none() {
            return Err(RecordError("`id` is not that of a key".to_owned()));
        }
        let hash = data_encoding::HEXLOWER.decode(text(&members, "hash")?.as_bytes()).ok();
        let hash = hash.and_then(|bytes| bytes.try_into().ok());
        let granted = ["subscribe", "publish", "manage", "presence"];
        let granted: Map<String, Value> = granted
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), members.get(name)?.clone())))
            .collect();
        let is_revoked = match members.get("revoked") {
            None | Some(Value::Bool(false)) => false,
            // In spite of its other members: a mistake must not make a key good again.
            Some(_) => true,
        };
        Ok(Self {
            id: id.into(),
            hash: hash.ok_or_else(|| RecordError("`hash` is 64 hexadecimal digits".to_owned()))?,
            name: text(&members, "name").unwrap_or_default().to_owned(),
            grants: grants_of(&Value::Object(granted)).map_err(|error| RecordError(error.to_string()))?,
            created: time(&members, "created_ms")?.unwrap_or_default(),
            expires: time(&members, "expires_ms")?,
            is_revoked,
        })
    }

    /// Tells this record from every other of the key.
    fn revision(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = sha256(self.to_json().as_bytes());
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn principal(&self) -> Principal {
        Principal::new(Credential {
            identity: Identity::Key { id: self.id.clone(), revision: self.revision() },
            expiry: self.expires.map(|at| Expiry { at, leeway_ms: 0 }),
            claims: Vec::new(),
            grants: self.grants.clone(),
        })
    }
}

/// All keys that there are.
#[derive(Default)]
pub(crate) struct Keys(RwLock<HashMap<Box<str>, Held>>);

struct Held {
    record: AccessKeyRecord,
    revision: u64,
    /// Made once, so that a request clones it.
    principal: Principal,
}

impl Keys {
    /// Takes a record in the place of the key's one before. `false` if there are too many keys.
    pub(crate) fn put(&self, record: AccessKeyRecord) -> bool {
        let mut keys = self.0.write();
        if keys.len() >= KEYS_MAX && !keys.contains_key(&record.id) {
            return false;
        }
        let principal = record.principal();
        let revision = record.revision();
        keys.insert(record.id.clone(), Held { record, revision, principal });
        true
    }

    pub(crate) fn has_room(&self) -> bool {
        self.0.read().len() < KEYS_MAX
    }

    /// Forgets a key, which makes it unknown.
    pub(crate) fn remove(&self, id: &str) {
        self.0.write().remove(id);
    }

    /// All records, by id.
    pub(crate) fn list(&self) -> Vec<AccessKeyRecord> {
        let mut all: Vec<AccessKeyRecord> = self.0.read().values().map(|held| held.record.clone()).collect();
        all.sort_unstable_by(|one, two| one.id.cmp(&two.id));
        all
    }

    pub(crate) fn record(&self, id: &str) -> Option<AccessKeyRecord> {
        self.0.read().get(id).map(|held| held.record.clone())
    }

    /// Whether what is kept of a key is what it was at this revision, and good.
    pub(crate) fn still_holds(&self, id: &str, revision: u64) -> bool {
        let keys = self.0.read();
        keys.get(id).is_some_and(|held| !held.record.is_revoked && held.revision == revision)
    }

    /// The principal of a key.
    pub(crate) fn authenticate(&self, text: &str, now: Timestamp) -> Result<Principal, KeyError> {
        let Key { id, secret } = Key::parse(text)?;
        let hash = sha256(&secret);
        let keys = self.0.read();
        let Some(held) = keys.get(&id) else { return Err(KeyError::Unknown(id)) };
        if !bool::from(held.record.hash.ct_eq(&hash)) {
            return Err(KeyError::WrongSecret(id));
        }
        if held.record.is_revoked {
            return Err(KeyError::Revoked(id));
        }
        match held.record.expires {
            Some(end) if now >= end => Err(KeyError::Expired { id, ago_ms: now.since(end) }),
            _ => Ok(held.principal.clone()),
        }
    }

    /// Keeps a principal with the sum of its grants, if the key is still what it was.
    pub(crate) fn remember(&self, id: &str, with_sum: &Principal) {
        if let Some(held) = self.0.write().get_mut(id)
            && held.principal == *with_sum
        {
            held.principal = with_sum.clone();
        }
    }
}
