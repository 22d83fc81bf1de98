//! `tailwire config`: whether a configuration is sound, and what holds by all of its sources.

use std::{fmt::Write, path::Path, process::ExitCode};

use clap::{Args, Subcommand};
use tailwire_access::config::{
    AccessConfig, HookConfig, IssuerConfig, OnError, RuleConfig, Source, TrustedHeaderConfig,
};
use tailwire_http::Limits;
use tailwire_model::Quota;

use super::{Failure, SettingsFile, end, print};
use crate::{
    config::{
        AcmeSettings, CertificateFiles, ClusterSettings, ListenSettings, LogFormat, TlsSettings, bounds_set,
        proxies_written, proxy_header_written, time_text,
    },
    settings::Configured,
    tls::ListenerTls,
};

/// Arguments of `tailwire config`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether `serve` would take the settings, secrets and keys included. Exit codes: 0 it would; 2 it would not
    Check(SettingsFile),
    /// Show what holds by the file, variables and defaults, without secrets
    Show(SettingsFile),
}

/// Runs a command.
pub(crate) fn run(args: &ConfigArgs) -> ExitCode {
    end(match &args.command {
        ConfigCommand::Check(file) => check(file),
        ConfigCommand::Show(file) => show(file),
    })
}

fn check(file: &SettingsFile) -> Result<ExitCode, Failure> {
    let Configured { settings, gate } = file.configured()?;
    settings.tls.as_ref().map_or(Ok(()), ListenerTls::check)?;
    print(match gate {
        Some(_) => "The configuration is sound.",
        None => "The configuration is sound. It has no section [access]: everybody may do everything.",
    });
    Ok(ExitCode::SUCCESS)
}

fn show(file: &SettingsFile) -> Result<ExitCode, Failure> {
    let settings = file.configured()?.settings;
    let mut out = String::new();
    let mut line = |key: &str, value: String| _ = writeln!(out, "{key} = {value}");
    line("listen", listeners(&settings.listen));
    if let Some(address) = &settings.admin_listen {
        line("admin_listen", text(&address.to_string()));
    }
    line("trusted_proxies", list(proxies_written(&settings.trusted_proxies).iter()));
    line("proxy_header", text(proxy_header_written(settings.trusted_proxies.header)));
    line("data", text(&settings.data.display().to_string()));
    line("log_level", text(&settings.log_level));
    let format = if settings.log_format == LogFormat::Json { "json" } else { "text" };
    line("log_format", text(format));
    line("access_log", settings.access_log.to_string());
    line("allow_origins", list(settings.allow_origins.iter()));
    line("public_urls", list(settings.public_urls.iter().map(|public| &public.url)));
    line("insecure_public", settings.insecure_public.to_string());
    if let Some(hub) = &settings.websub_hub {
        line("websub_hub", text(hub));
    }
    line("threads.front", settings.threads.front.to_string());
    line("threads.delivery", settings.threads.delivery.to_string());
    if let Some(bytes) = settings.log_max_bytes {
        line("log_max_bytes", bytes.to_string());
    }
    line("max_topics", settings.max_topics.to_string());
    line("forget_topics_after", text(&time_text(settings.forget_topics_after_ms)));
    line("receive_max_bytes", settings.receive_max_bytes.to_string());
    for (term, options) in &settings.options {
        let mut body = Vec::new();
        tailwire_wire::options::body(term, options, None, &mut body);
        // As `/options` has them: the file's own notation has no `null`.
        let _ = writeln!(out, "# options: {}", String::from_utf8_lossy(&body));
    }
    if let Some(tls) = &settings.tls {
        show_tls(tls, &mut out);
    }
    if let Some(cluster) = &settings.cluster {
        show_cluster(cluster, &mut out);
    }
    if let Some(access) = &settings.access {
        show_access(access, &mut out);
    }
    show_limits(&settings.limits, &settings.quotas, &mut out);
    print(out.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn show_limits(limits: &Limits, quotas: &[Quota], out: &mut String) {
    let Limits { address, principal, total } = limits;
    for (name, bounds) in [("address", address), ("principal", principal), ("total", total)] {
        for (number, (key, bound)) in bounds_set(bounds).enumerate() {
            if number == 0 {
                let _ = writeln!(out, "\n[limits.{name}]");
            }
            let _ = writeln!(out, "{key} = {bound}");
        }
    }
    for Quota { pattern, bytes, topics } in quotas {
        let _ = writeln!(out, "\n[[limits.quota]]\npattern = {}", text(pattern.as_str()));
        for (key, bound) in [("bytes", bytes), ("topics", topics)] {
            bound.iter().for_each(|bound| _ = writeln!(out, "{key} = {bound}"));
        }
    }
}

fn show_tls(tls: &TlsSettings, out: &mut String) {
    let mut line = |key: &str, value: String| _ = writeln!(out, "{key}{value}");
    let path = |path: &Path| text(&path.display().to_string());
    let TlsSettings { certificates, is_dev: _, client_ca, requires_client, acme } = tls;
    line("\n[tls]", String::new());
    if let Some(authorities) = client_ca {
        line("client_ca = ", path(authorities));
        line("client_required = ", requires_client.to_string());
    }
    for CertificateFiles { cert, key } in certificates {
        line("\n[[tls.certificate]]\ncert = ", path(cert));
        line("key = ", path(key));
    }
    if let Some(AcmeSettings { domains, contact, directory, directory_ca }) = acme {
        line("\n[tls.acme]\ndomains = ", list(domains.iter()));
        line("contact = ", list(contact.iter()));
        line("directory = ", text(directory));
        if let Some(root) = directory_ca {
            line("directory_ca = ", path(root));
        }
        line("accept_terms = ", true.to_string());
    }
}

/// A password or token is shown by where it is, or not at all.
fn show_cluster(cluster: &ClusterSettings, out: &mut String) {
    let mut line = |key: &str, value: String| _ = writeln!(out, "{key}{value}");
    line("\n[cluster]", String::new());
    line(
        "servers = ",
        list(cluster.servers.iter().map(|url| without_password(url)).collect::<Vec<_>>().iter()),
    );
    line("monitors = ", list(cluster.monitors.iter()));
    line("stream = ", text(&cluster.stream));
    line("replicas = ", cluster.replicas.to_string());
    line("checkpoint_bytes = ", cluster.checkpoint_bytes.to_string());
    for (key, value) in [("node = ", &cluster.node), ("user = ", &cluster.user)] {
        value.iter().for_each(|value| line(key, text(value)));
    }
    for (key, value) in [("password = ", &cluster.password), ("token = ", &cluster.token)] {
        let Some(source) = value.as_ref().and_then(|value| value.parse::<Source>().ok()) else { continue };
        line(key, text(&source.to_string()));
    }
    let files = [("ca = ", &cluster.ca), ("cert = ", &cluster.cert), ("key = ", &cluster.key)];
    for (key, path) in files {
        path.iter().for_each(|path| line(key, text(&path.display().to_string())));
    }
}

/// A server's URL may have a name and a password in it.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

fn show_access(access: &AccessConfig, out: &mut String) {
    let mut line = |key: &str, value: String| _ = writeln!(out, "{key}{value}");
    line("\n[access]", String::new());
    if let Some(audience) = &access.audience {
        line("audience = ", text(audience));
    }
    line("leeway_seconds = ", access.leeway_seconds.to_string());
    line("cookie = ", text(&access.cookie));
    for issuer in &access.issuer {
        let IssuerConfig { issuer, secrets, keys, jwks, algorithms, grants, subject } = issuer;
        line("\n[[access.issuer]]\nissuer = ", text(issuer));
        if !secrets.is_empty() {
            line("secrets = ", sources(secrets));
        }
        if !keys.is_empty() {
            line("keys = ", sources(keys));
        }
        if let Some(jwks) = jwks {
            line("jwks = ", text(jwks));
        }
        if !algorithms.is_empty() {
            line("algorithms = ", list(algorithms.iter()));
        }
        line("grants = ", text(grants));
        line("subject = ", text(subject));
    }
    if let Some(hook) = &access.hook {
        let HookConfig { url, topics, actions, headers, timeout_ms, max_age_seconds, on_error, secret } =
            hook;
        line("\n[access.hook]\nurl = ", text(url));
        line("topics = ", list(topics.iter()));
        line("actions = ", list(actions.iter()));
        line("headers = ", list(headers.iter()));
        line("timeout_ms = ", timeout_ms.to_string());
        line("max_age_seconds = ", max_age_seconds.to_string());
        line("on_error = ", text(if *on_error == OnError::Deny { "deny" } else { "allow" }));
        if let Some(secret) = secret {
            line("secret = ", text(&secret.to_string()));
        }
    }
    if let Some(TrustedHeaderConfig { name, from }) = &access.trusted_header {
        line("\n[access.trusted_header]\nname = ", text(name));
        line("from = ", list(from.iter().map(ToString::to_string).collect::<Vec<_>>().iter()));
    }
    for rule in &access.rule {
        let RuleConfig { who, subscribe, publish, manage, presence } = rule;
        line("\n[[access.rule]]\nwho = ", text(who));
        let all =
            [("subscribe", subscribe), ("publish", publish), ("manage", manage), ("presence", presence)];
        for (action, patterns) in all.into_iter().filter(|(_, patterns)| !patterns.is_empty()) {
            line(&format!("{action} = "), list(patterns.iter()));
        }
    }
}

fn listeners(all: &[ListenSettings]) -> String {
    match all {
        [one] if *one == ListenSettings::from(one.address.clone()) => one.to_string(),
        all => format!("[{}]", all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// A string of TOML.
fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list<'a>(items: impl Iterator<Item = &'a String>) -> String {
    format!("[{}]", items.map(|item| text(item)).collect::<Vec<_>>().join(", "))
}

/// Where secrets are, never what they are.
fn sources(sources: &[Source]) -> String {
    format!("[{}]", sources.iter().map(|source| text(&source.to_string())).collect::<Vec<_>>().join(", "))
}
