//! The decision hook, as data: what the application is asked about, and what its answer says. Somebody else asks it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tailwire_model::{Action, Grants, Identity, Principal, Term};

use crate::{
    config::{HookConfig, OnError, Source},
    digest::sha256,
    error::AccessError,
    granted::grants_of,
    names::header_name,
    records::RecordError,
    token::{is_name, object},
};

/// A configured hook.
#[derive(Clone)]
pub struct Hook {
    /// Where the application answers.
    pub url: Box<str>,
    /// Names, in lower case, of the headers of a request that it gets.
    pub headers: Vec<Box<str>>,
    /// How long an answer may take.
    pub timeout_ms: u64,
    /// How long an answer holds.
    pub max_age_ms: u64,
    /// The decision without one.
    pub on_error: OnError,
    /// Signs what is asked.
    pub secret: Option<Box<[u8]>>,
    topics: Vec<Term>,
    actions: Vec<Action>,
}

impl Hook {
    pub(crate) fn new(
        config: &HookConfig,
        read: &mut dyn FnMut(&Source) -> Result<Vec<u8>, String>,
    ) -> Result<Self, AccessError> {
        let fail = |key: &str, problem: &str| AccessError::at(format!("access.hook.{key}"), problem);
        if !config.url.starts_with("http://") && !config.url.starts_with("https://") {
            return Err(fail("url", "it is an http or https URL"));
        }
        let mut topics = Vec::new();
        for (index, name) in config.topics.iter().enumerate() {
            let at = format!("topics[{index}]");
            topics.push(Term::parse(name).map_err(|error| fail(&at, &error.to_string()))?);
        }
        let mut actions = Vec::new();
        for (index, name) in config.actions.iter().enumerate() {
            let action = Action::named(name);
            let problem = "an action is subscribe, publish, manage or presence";
            actions.push(action.ok_or_else(|| fail(&format!("actions[{index}]"), problem))?);
        }
        if topics.is_empty() || actions.is_empty() {
            return Err(AccessError::at("access.hook".to_owned(), "it is asked about no topic or no action"));
        }
        if !(1..=10_000).contains(&config.timeout_ms) {
            return Err(fail("timeout_ms", "it is 1 to 10,000"));
        }
        let secret = match &config.secret {
            None => None,
            Some(source) => {
                let secret = read(source).map_err(|problem| fail("secret", &problem))?;
                Some(source.secret(&secret).into())
            }
        };
        let mut headers = Vec::new();
        for (index, name) in config.headers.iter().enumerate() {
            let at = format!("headers[{index}]");
            headers.push(header_name(name).map_err(|problem| fail(&at, problem))?);
        }
        Ok(Self {
            url: config.url.as_str().into(),
            headers,
            timeout_ms: config.timeout_ms,
            max_age_ms: config.max_age_seconds.saturating_mul(1000),
            on_error: config.on_error,
            secret,
            topics,
            actions,
        })
    }

    /// Whether it is asked about an action on a term, of which something at least has to be its.
    pub fn concerns(&self, action: Action, term: &Term) -> bool {
        self.actions.contains(&action) && self.topics.iter().any(|own| own.intersect(term).is_some())
    }

    /// The topics that it is asked about.
    pub fn topics(&self) -> &[Term] {
        &self.topics
    }

    /// The actions that it is asked about.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// What the application is asked about a principal that wants to do something, with the headers of its request that it
    /// gets; nothing, where none of it is the hook's.
    pub fn question(
        &self,
        principal: &Principal,
        wanted: impl IntoIterator<Item = (Action, Term)>,
        headers: &[(Box<str>, String)],
    ) -> Option<HookQuestion> {
        let mut asks: Vec<(Action, Term)> =
            wanted.into_iter().filter(|(action, term)| self.concerns(*action, term)).collect();
        asks.sort_by(|(one, a), (other, b)| (one.name(), a.as_str()).cmp(&(other.name(), b.as_str())));
        asks.dedup();
        if asks.is_empty() {
            return None;
        }
        let mut topics = BTreeMap::<_, Vec<_>>::new();
        for (action, term) in &asks {
            topics.entry(action.name()).or_default().push(term.as_str());
        }
        let shown = json!(headers.iter().map(|(name, value)| (&**name, value)).collect::<BTreeMap<_, _>>());
        let body = json!({ "asks": topics, "principal": named(principal), "headers": shown }).to_string();
        Some(HookQuestion { asks, shown: shown.to_string(), body })
    }

    /// The answer that holds where there was none: with [`OnError::Allow`], what was asked is granted.
    pub fn without_answer(&self, question: &HookQuestion) -> Option<HookAnswer> {
        match self.on_error {
            OnError::Deny => None,
            OnError::Allow => {
                Some(HookAnswer { subject: None, grants: Grants::new(question.asks.iter().cloned()) })
            }
        }
    }
}

/// A principal as the application knows it.
fn named(principal: &Principal) -> Value {
    match principal.identity() {
        Identity::Token(token) => json!({ "issuer": token.issuer, "subject": token.subject }),
        Identity::Key { id, .. } => json!({ "key": id }),
        Identity::Header { subject } => json!({ "header": subject }),
        Identity::Certificate { subject } => json!({ "certificate": subject }),
        Identity::Anonymous | Identity::Hook { .. } => Value::Null,
    }
}

/// What the application is asked. The same question has the same answer for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookQuestion {
    asks: Vec<(Action, Term)>,
    /// The headers, as JSON.
    shown: String,
    body: String,
}

impl HookQuestion {
    /// The question as JSON, to the last byte the same for the same question.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The digest by which its answer is remembered.
    pub fn digest(&self) -> [u8; 32] {
        sha256(self.body.as_bytes())
    }

    /// What tells two users apart whom the application does not name.
    pub fn shown(&self) -> &[u8] {
        self.shown.as_bytes()
    }
}

/// The application's answer: `{"subject": "…", "subscribe": […], …}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookAnswer {
    /// The principal, if the application names it.
    pub subject: Option<Box<str>>,
    /// The grants.
    pub grants: Grants,
}

impl HookAnswer {
    /// Reads the body of an answer.
    ///
    /// # Errors
    /// [`RecordError`], with what is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, RecordError> {
        let mut members = object(body).map_err(|error| RecordError(error.to_string()))?;
        let subject = match members.remove("subject") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) if is_name(&name) => Some(name.into()),
            Some(_) => return Err(RecordError("`subject` is 1 to 255 bytes".to_owned())),
        };
        let grants = grants_of(&Value::Object(members)).map_err(|error| RecordError(error.to_string()))?;
        Ok(Self { subject, grants })
    }
}
