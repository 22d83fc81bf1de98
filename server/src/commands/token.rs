//! `tailwire token`: tokens for development and tests, a look into others, and what a configuration makes of them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tailwire_access::{config::IssuerConfig, inspect, mint};
use tailwire_core::Clock;
use tailwire_model::Identity;

use super::{EXIT_REFUSED, Failure, SettingsFile, end, grants::GrantArgs, print, secret, secret_text};
use crate::access::read_source;

/// Arguments of `tailwire token`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Sign a token. With a settings file, the issuer, its secret and the audience are those of its first issuer that has
    /// secrets, unless they are given
    Mint(Box<MintArgs>),
    /// Show the header and the claims of a token. Nothing is verified
    Inspect {
        /// The token, as file:PATH, env:NAME or itself
        token: String,
    },
    /// Hold a token against a configuration, and say what it proves or which check it fails. Revocations are known to the running
    /// broker only
    Verify {
        #[command(flatten)]
        settings: SettingsFile,
        /// The token, as file:PATH, env:NAME or itself
        token: String,
    },
}

#[derive(Debug, Args)]
struct MintArgs {
    #[command(flatten)]
    settings: SettingsFile,

    /// A secret, or a private key in PEM: file:PATH, env:NAME or itself
    #[arg(long, value_name = "SECRET")]
    key: Option<String>,

    /// The algorithm
    #[arg(long, value_name = "NAME", default_value = "HS256")]
    algorithm: String,

    /// The key's id, for the header
    #[arg(long, value_name = "ID")]
    kid: Option<String>,

    /// The claim `iss`
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,

    /// The claim `aud`
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,

    /// The claim `sub`
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// How many seconds it holds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    expires_in: u64,

    /// More claims, as a JSON object; they win over the others
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,

    #[command(flatten)]
    grants: GrantArgs,
}

/// Runs a command.
pub(crate) fn run(args: &TokenArgs) -> ExitCode {
    end(match &args.command {
        TokenCommand::Mint(args) => minted(args),
        TokenCommand::Inspect { token } => inspected(token),
        TokenCommand::Verify { settings, token } => verified(settings, token),
    })
}

fn minted(args: &MintArgs) -> Result<ExitCode, Failure> {
    let access = args.settings.configured()?.settings.access;
    let mut issuers = access.iter().flat_map(|access| &access.issuer);
    let is_meant = |issuer: &&IssuerConfig| {
        !issuer.secrets.is_empty() && args.issuer.as_ref().is_none_or(|name| *name == issuer.issuer)
    };
    let issuer = issuers.find(is_meant);
    let key = match (&args.key, issuer.and_then(|issuer| issuer.secrets.first())) {
        (Some(given), _) => secret(given)?,
        (None, Some(source)) => source.secret(&read_source(source)?).to_owned(),
        (None, None) => {
            return Err(
                "name a secret or a private key (--key), or settings with an issuer of secrets".into()
            );
        }
    };
    let now_s = Clock::system_now().0 / 1000;
    let mut claims = Map::from_iter([
        ("iat".to_owned(), json!(now_s)),
        ("exp".to_owned(), json!(now_s.saturating_add(args.expires_in))),
    ]);
    let audience = args.audience.as_ref().or_else(|| access.as_ref()?.audience.as_ref());
    let named = args.issuer.as_ref().or(issuer.map(|issuer| &issuer.issuer));
    let subject_claim = issuer.map_or("sub", |issuer| issuer.subject.as_str());
    for (name, value) in [("iss", named), ("aud", audience), (subject_claim, args.subject.as_ref())] {
        claims.extend(value.map(|value| (name.to_owned(), json!(value))));
    }
    let grants = args.grants.to_json();
    if !grants.is_empty() {
        let claim = issuer.map_or("tailwire", |issuer| issuer.grants.as_str());
        claims.insert(claim.to_owned(), Value::Object(grants));
    }
    if let Some(more) = &args.claims {
        claims.extend(serde_json::from_str::<Map<String, Value>>(more)?);
    }
    let claims = Value::Object(claims).to_string();
    print(mint(&args.algorithm, &key, args.kid.as_deref(), &claims)?);
    Ok(ExitCode::SUCCESS)
}

fn inspected(token: &str) -> Result<ExitCode, Failure> {
    let (header, claims) = inspect(&secret_text(token)?)?;
    for part in [header, claims] {
        print(serde_json::to_string_pretty(&serde_json::from_str::<Value>(&part)?)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn verified(settings: &SettingsFile, token: &str) -> Result<ExitCode, Failure> {
    let gate = settings.configured()?.gate.ok_or("there is no section [access]: no token is known")?;
    match gate.access().bearer(&secret_text(token)?, Clock::system_now()) {
        Ok(principal) => {
            if let Identity::Token(token) = principal.identity() {
                print(format_args!("holds: {:?} of the issuer {}", token.subject, token.issuer));
            }
            if let Some(expiry) = principal.expiry() {
                let left_ms = expiry.at.since(Clock::system_now());
                print(format_args!("ends: in {} s by this clock", left_ms / 1000));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => {
            print(format_args!("refused: {}: {refused}", refused.code()));
            Ok(ExitCode::from(EXIT_REFUSED))
        }
    }
}
