//! Grants as JSON: `{"subscribe": ["chat/**"], "publish": […], "manage": […], "presence": […]}`, in the claims of a token,
//! in the record of a key and in a hook's answer. Patterns stand for themselves: a brace is a brace.

use serde_json::{Map, Value};
use tailwire_model::{Action, FilterError, Grants, Term, limits::NARROWED_TERMS_MAX};

/// Why JSON says no grants. A wrong entry refuses the whole: to leave it out would be silence about a mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrantedError {
    #[error("grants are an object with the members subscribe, publish, manage and presence")]
    NoObject,
    #[error("`{0}` is no action: they are subscribe, publish, manage and presence")]
    UnknownAction(String),
    #[error("`{0}` is a list of patterns, as strings")]
    NoList(Action),
    #[error("`{0}` has more than 1,000 patterns")]
    TooMany(Action),
    #[error("`{action}` has the pattern {pattern:?}: {error}")]
    Pattern { action: Action, pattern: String, error: FilterError },
}

/// The grants that a JSON object says; other members are an error.
pub(crate) fn grants_of(value: &Value) -> Result<Grants, GrantedError> {
    let members = value.as_object().ok_or(GrantedError::NoObject)?;
    let mut granted = Vec::new();
    for (name, list) in members {
        let Some(action) = Action::named(name) else {
            return Err(GrantedError::UnknownAction(shortened(name)));
        };
        let list = list.as_array().ok_or(GrantedError::NoList(action))?;
        if list.len() > NARROWED_TERMS_MAX {
            return Err(GrantedError::TooMany(action));
        }
        for pattern in list {
            let pattern = pattern.as_str().ok_or(GrantedError::NoList(action))?;
            let term = Term::parse(pattern).map_err(|error| {
                let pattern = shortened(pattern);
                GrantedError::Pattern { action, pattern, error }
            })?;
            granted.push((action, term));
        }
    }
    Ok(Grants::new(granted))
}

/// The members of an object that say the same grants; an action without a grant has none.
pub(crate) fn json_of(grants: &Grants) -> Map<String, Value> {
    let mut members = Map::new();
    for action in Action::ALL {
        let terms: Vec<&str> = grants.terms(action).iter().map(Term::as_str).collect();
        if !terms.is_empty() {
            members.insert(action.name().to_owned(), terms.into());
        }
    }
    members
}

/// A text of a stranger, short enough for a log line.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
