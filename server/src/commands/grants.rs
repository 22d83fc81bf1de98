//! Grants on the command line: patterns by action.

use clap::Args;
use serde_json::{Map, Value, json};

/// Each can be repeated.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// A topic or pattern that may be read
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,

    /// A topic or pattern that may be published to
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,

    /// A topic or pattern whose messages may be removed, and options set
    #[arg(long, value_name = "PATTERN")]
    manage: Vec<String>,

    /// A topic or pattern whose listeners may be seen
    #[arg(long, value_name = "PATTERN")]
    presence: Vec<String>,
}

impl GrantArgs {
    /// As tokens and keys have them; an action without a pattern is left out.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let Self { subscribe, publish, manage, presence } = self;
        let all =
            [("subscribe", subscribe), ("publish", publish), ("manage", manage), ("presence", presence)];
        let granted = all.into_iter().filter(|(_, patterns)| !patterns.is_empty());
        granted.map(|(action, patterns)| (action.to_owned(), json!(patterns))).collect()
    }
}
