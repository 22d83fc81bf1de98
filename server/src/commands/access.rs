//! `tailwire access check`: what would become of a request, and why, step by step.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use tailwire_access::{Explanation, Verdict};
use tailwire_core::Clock;
use tailwire_model::{Action, Principal, Term};

use super::{EXIT_REFUSED, Failure, SettingsFile, end, print, secret_text};

/// Arguments of `tailwire access`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct AccessArgs {
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(Debug, Subcommand)]
enum AccessCommand {
    /// Say whether a configuration permits something, and which grant decides. Exit codes: 0 it does, at least in part; 1 it
    /// does not; 2 nobody can tell. Keys and revocations are known to the running broker only
    Check(AccessCheckArgs),
}

#[derive(Debug, Args)]
struct AccessCheckArgs {
    #[command(flatten)]
    settings: SettingsFile,

    /// The token that is shown, as file:PATH, env:NAME or itself; without one, anonymous asks
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,

    #[command(flatten)]
    asked: AccessQuery,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AccessQuery {
    /// A topic or pattern to read
    #[arg(long, value_name = "TOPIC")]
    subscribe: Option<String>,

    /// A topic to publish to
    #[arg(long, value_name = "TOPIC")]
    publish: Option<String>,

    /// A topic or pattern to remove messages from, or set options of
    #[arg(long, value_name = "TOPIC")]
    manage: Option<String>,

    /// A topic or pattern whose listeners are to be seen
    #[arg(long, value_name = "TOPIC")]
    presence: Option<String>,
}

/// Runs the command.
pub(crate) fn run(AccessArgs { command: AccessCommand::Check(args) }: &AccessArgs) -> ExitCode {
    end(check(args))
}

fn check(args: &AccessCheckArgs) -> Result<ExitCode, Failure> {
    let gate = args.settings.configured()?.gate;
    let access = gate.ok_or("there is no section [access]: everybody may do everything")?.access();
    let AccessQuery { subscribe, publish, manage, presence } = &args.asked;
    let asked = [
        (Action::Subscribe, subscribe),
        (Action::Publish, publish),
        (Action::Manage, manage),
        (Action::Presence, presence),
    ];
    let asked = asked.into_iter().find_map(|(action, topic)| Some((action, topic.as_deref()?)));
    let (action, topic) = asked.ok_or("name what is asked, as --subscribe TOPIC")?;
    let term = Term::parse(topic)?;
    let explanation = match &args.token {
        Some(token) => access.explain_bearer(&secret_text(token)?, Clock::system_now(), action, &term),
        None => access.explain(&Principal::ANONYMOUS, action, &term),
    };
    print(explanation.to_string().trim_end());
    Ok(exit_code(&explanation))
}

fn exit_code(explanation: &Explanation) -> ExitCode {
    match explanation.verdict {
        Verdict::Permitted | Verdict::Narrowed(_) => ExitCode::SUCCESS,
        Verdict::Forbidden | Verdict::Refused(_) => ExitCode::from(EXIT_REFUSED),
    }
}
