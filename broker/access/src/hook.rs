//! The decision hook, as data: what the application is asked about, and what its answer says. Somebody else asks it.

use serde_json::Value;
use tailwire_model::{Action, Grants, Term};

use crate::{
    config::{HookConfig, OnError, Source},
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

    /// The answer that holds where there was none: with [`OnError::Allow`], what was asked is granted.
    pub fn without_answer(&self, action: Action, term: &Term) -> HookAnswer {
        let granted = match self.on_error {
            OnError::Deny => None,
            OnError::Allow => Some((action, term.clone())),
        };
        HookAnswer { subject: None, grants: Grants::new(granted) }
    }
}

/// The application's answer: `{"subject": "…", "subscribe": […], …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
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
