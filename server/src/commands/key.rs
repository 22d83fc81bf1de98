//! `tailwire key`: the API keys of a running broker, over its HTTP API.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tailwire_outbound::agent;
use ureq::http::Method;

use super::{Failure, end, grants::GrantArgs, print, say, secret_text};
use crate::{access::OPERATOR_KEY, machine};

/// A broker that takes longer is not there.
const PATIENCE: Duration = Duration::from_secs(15);

/// Arguments of `tailwire key`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    broker: BrokerArgs,

    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Args)]
struct BrokerArgs {
    /// Where the broker is
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8245")]
    url: String,

    /// A token or key that may manage $access/**, as file:PATH, env:NAME or itself [default: the operator's key]
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<String>,

    /// The broker's data folder, which holds the operator's key
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TAILWIRE_DATA",
        hide_env_values = true,
        default_value = "./tailwire-data"
    )]
    data: PathBuf,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key, and print it, this once
    Create(CreateArgs),
    /// List all keys
    List,
    /// Revoke a key: what it has open ends
    Revoke {
        /// The key's id: the part behind twk_
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name, for people
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,

    /// How many seconds it holds [default: until it is revoked]
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u64>,

    #[command(flatten)]
    grants: GrantArgs,
}

/// Runs a command.
pub(crate) fn run(KeyArgs { broker, command }: &KeyArgs) -> ExitCode {
    end(match command {
        KeyCommand::Create(args) => create(broker, args),
        KeyCommand::List => list(broker),
        KeyCommand::Revoke { id } => revoke(broker, id),
    })
}

fn create(broker: &BrokerArgs, args: &CreateArgs) -> Result<ExitCode, Failure> {
    let mut asked = args.grants.to_json();
    if asked.is_empty() {
        say("tailwire: the key has no grants of its own, but for those of rules");
    }
    asked.insert("name".to_owned(), json!(args.name));
    if let Some(seconds) = args.expires_in {
        asked.insert("expires_in_seconds".to_owned(), json!(seconds));
    }
    let made = broker.ask(Method::POST, "/keys", Some(&Value::Object(asked)))?;
    let key = made["key"].as_str().ok_or("the broker's answer has no key")?;
    say("This is shown once. The broker keeps only a hash of it.");
    print(key);
    Ok(ExitCode::SUCCESS)
}

fn list(broker: &BrokerArgs) -> Result<ExitCode, Failure> {
    let answer = broker.ask(Method::GET, "/keys", None)?;
    let keys = answer["keys"].as_array().ok_or("the broker's answer has no keys")?;
    for key in keys.iter().filter_map(Value::as_object) {
        print(described(key));
    }
    Ok(ExitCode::SUCCESS)
}

/// A key on a line: its id, its name, what became of it, what it grants.
fn described(key: &Map<String, Value>) -> String {
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!("{}  {:?}", text("id"), text("name"));
    if key.get("revoked").and_then(Value::as_bool) == Some(true) {
        line.push_str("  revoked");
    }
    if let Some(end) = key.get("expires_ms").and_then(Value::as_u64) {
        line.push_str(&format!("  until {end} ms"));
    }
    for action in ["subscribe", "publish", "manage", "presence"] {
        if let Some(patterns) = key.get(action) {
            line.push_str(&format!("  {action} {patterns}"));
        }
    }
    line
}

fn revoke(broker: &BrokerArgs, id: &str) -> Result<ExitCode, Failure> {
    let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if id.is_empty() || !id.bytes().all(is_id) {
        return Err(
            "that is no id of a key: it is the part behind twk_, as `tailwire key list` shows it".into()
        );
    }
    broker.ask(Method::DELETE, &format!("/keys/{id}"), None)?;
    say(format_args!("The key {id} is revoked."));
    Ok(ExitCode::SUCCESS)
}

impl BrokerArgs {
    fn credential(&self) -> Result<String, Failure> {
        if let Some(token) = &self.token {
            return secret_text(token);
        }
        let path = self.data.join(OPERATOR_KEY);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let why = machine::describe(&error);
            format!(
                "can't read the operator's key, {}: {why}; name another credential by --token",
                path.display()
            )
        })?;
        Ok(text.trim().to_owned())
    }

    /// Asks the broker. A problem that it answers is the error.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("authorization", format!("Bearer {}", self.credential()?))
            .header("content-type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())?;
        let mut answer = agent(PATIENCE).run(request).map_err(|error| format!("{url}: {error}"))?;
        let text = answer.body_mut().read_to_string()?;
        let value: Value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        if answer.status().is_success() {
            return Ok(value);
        }
        let member = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Err(format!(
            "{} {}: {} {}",
            answer.status().as_u16(),
            member("code"),
            member("title"),
            member("detail")
        )
        .trim_end()
        .into())
    }
}
