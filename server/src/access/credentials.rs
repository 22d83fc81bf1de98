//! The administration of credentials, as the HTTP API has it: what is made here is a record of the log first, and answered
//! once that is durable and in force.

use std::{sync::Arc, time::Duration};

use rand::{TryRngCore, rngs::OsRng};
use serde_json::{Value, json};
use tailwire_access::{KeyRequest, NewKey, Revocation};
use tailwire_core::{
    Broker, Clock, PublishError, WriteError,
    log::{Appended, Group},
};
use tailwire_http::{Credentials, Written};
use tailwire_model::{
    Condition, Draft, MediaType, Principal, Topic,
    limits::{STORAGE_RETRY_MS, TICKET_MS},
    message::Extras,
};
use tailwire_wire::{Code, Problem};

use crate::config::PublicUrl;

use super::{
    Gate,
    records::{KEYS, REVOCATIONS},
};

/// How long a record that is durable may take to be in force, before its writer gets "outcome unknown".
const IN_FORCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) gate: Arc<Gate>,
    pub(crate) broker: Broker,
    /// By which URLs clients reach it.
    pub(crate) public_urls: Vec<PublicUrl>,
}

impl Credentials for Registry {
    fn cookie(&self) -> Option<String> {
        self.gate.access().cookie().map(str::to_owned)
    }

    fn resource_metadata(&self, path: &str) -> Option<Vec<u8>> {
        let access = self.gate.access();
        let first = self.public_urls.first().filter(|_| path.is_empty());
        let public = self.public_urls.iter().find(|public| public.path() == path).or(first)?;
        // Others are names that no client can ask.
        let servers: Vec<&str> = access.issuers().filter(|issuer| issuer.starts_with("https://")).collect();
        let mut metadata = json!({ "resource": public.url, "bearer_methods_supported": ["header"] });
        if !servers.is_empty() {
            metadata["authorization_servers"] = json!(servers);
        }
        Some(metadata.to_string().into_bytes())
    }

    fn issue_ticket(&self, principal: &Principal) -> Result<Vec<u8>, Problem> {
        let issued = self.gate.access().issue_ticket(principal, &random()?, Clock::system_now());
        let ticket = issued.map_err(|error| {
            Problem::detailed(Code::RateLimited, error.to_string()).with_retry_after_ms(TICKET_MS)
        })?;
        Ok(json!({"ticket": ticket, "expires_in_ms": TICKET_MS}).to_string().into_bytes())
    }

    fn keys(&self) -> Vec<u8> {
        let keys = self.gate.access().key_records();
        let keys: Vec<Value> = keys.iter().map(|record| Value::Object(record.shown())).collect();
        json!({"keys": keys}).to_string().into_bytes()
    }

    fn create_key(&self, body: &[u8]) -> Written {
        let now = Clock::system_now();
        let asked = KeyRequest::parse(body, now);
        let own = self.clone();
        Box::pin(async move {
            let KeyRequest { name, grants, expires } = asked.map_err(|error| invalid(&error))?;
            let made = NewKey::new(&random()?, &name, grants, now, expires);
            own.check_room()?;
            own.write(KEYS, made.record.id.to_string(), made.record.to_json()).await?;
            let mut told = made.record.shown();
            told.insert("key".to_owned(), json!(made.key.reveal()));
            Ok(Value::Object(told).to_string().into_bytes())
        })
    }

    fn revoke_key(&self, id: &str) -> Written {
        let (own, record) = (self.clone(), self.gate.access().key_record(id));
        Box::pin(async move {
            let unknown = || Problem::detailed(Code::NotFound, "There is no key with this id.");
            let mut record = record.ok_or_else(unknown)?;
            if !record.is_revoked {
                record.is_revoked = true;
                own.write(KEYS, record.id.to_string(), record.to_json()).await?;
            }
            Ok(Vec::new())
        })
    }

    fn revocations(&self) -> Vec<u8> {
        let all = self.gate.access().revocations();
        let all: Vec<Value> =
            all.iter().filter_map(|own| serde_json::from_str(&own.to_json()).ok()).collect();
        json!({"revocations": all}).to_string().into_bytes()
    }

    fn revoke(&self, body: &[u8]) -> Written {
        let (own, revocation) = (self.clone(), Revocation::parse(body));
        Box::pin(async move {
            let revocation = revocation.map_err(|error| invalid(&error))?;
            own.check_room()?;
            let told = revocation.to_json();
            own.write(REVOCATIONS, revocation.key(), told.clone()).await?;
            Ok(told.into_bytes())
        })
    }
}

impl Registry {
    /// Whether there may be one more record. To revoke a key takes none.
    fn check_room(&self) -> Result<(), Problem> {
        let has_room = self.gate.access().has_room(Clock::system_now());
        if has_room { Ok(()) } else { Err(Problem::new(Code::RecordsTooMany)) }
    }

    /// Writes a record, and waits until it is in force.
    async fn write(&self, topic: &'static str, key: String, record: String) -> Result<(), Problem> {
        let topic = Topic::parse(topic).map_err(Problem::from)?;
        let mut draft = Draft::new(topic, MediaType::JSON, record.into());
        draft.extras = Some(Box::new(Extras { key: Some(key), ..Extras::default() }));
        let group = Group { drafts: vec![draft], key: None, condition: Condition::None };
        let written = self.broker.publish_own(group).await.map_err(|error| unwritten(&error))?;
        let (Appended::Stored(stored) | Appended::Replayed(stored)) = written else {
            // It had no key and no condition.
            return Err(Problem::new(Code::Internal));
        };
        let mut applied = self.gate.applied.subscribe();
        let position = stored.first.position;
        let in_force = applied.wait_for(|applied| *applied >= position);
        match tokio::time::timeout(IN_FORCE, in_force).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Problem::new(Code::AccessUnavailable).with_retry_after_ms(STORAGE_RETRY_MS)),
        }
    }
}

fn unwritten(error: &PublishError) -> Problem {
    tracing::error!(%error, "a record of access could not be written");
    let code = match error {
        PublishError::Write(WriteError::Overloaded) => Code::Overloaded,
        PublishError::Write(WriteError::Draining) => Code::Draining,
        PublishError::Write(WriteError::Full) => Code::StorageFull,
        PublishError::Write(WriteError::Unknown) => Code::OutcomeUnknown,
        _ => Code::StorageFailed,
    };
    Problem::new(code).with_retry_after_ms(STORAGE_RETRY_MS)
}

fn invalid(error: &tailwire_access::RecordError) -> Problem {
    Problem::detailed(Code::JsonInvalid, error.to_string())
}

/// Bytes of the operating system's generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| Problem::new(Code::Internal))?;
    Ok(bytes)
}
