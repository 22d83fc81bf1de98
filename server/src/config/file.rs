//! The settings file: TOML, read key by key rather than derived, so that every complaint has its line.

use std::path::PathBuf;

use tailwire_access::config::AccessConfig;
use tailwire_http::Limits;
use tailwire_model::{Options, Quota, Term};
use toml::de::DeTable;

use super::{
    access,
    cluster::{self, GivenCluster},
    entry::{FileEntry, line_of},
    limits,
    listen::{self, ListenSettings},
    options,
    source::{ConfigError, FileText, Sourced, hint},
    tls::{self, FileTls},
};

/// Settings of a file, as far as it has them.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    pub(super) listen: Option<Vec<ListenSettings>>,
    pub(super) admin_listen: Option<Sourced<String>>,
    pub(super) trusted_proxies: Option<Sourced<Vec<String>>>,
    pub(super) proxy_header: Option<Sourced<String>>,
    pub(super) data: Option<Sourced<PathBuf>>,
    pub(super) log_level: Option<Sourced<String>>,
    pub(super) log_format: Option<Sourced<String>>,
    pub(super) access_log: Option<Sourced<String>>,
    pub(super) allow_origins: Option<Sourced<Vec<String>>>,
    pub(super) log_max_bytes: Option<Sourced<String>>,
    pub(super) max_topics: Option<Sourced<String>>,
    pub(super) forget_topics_after: Option<Sourced<String>>,
    pub(super) receive_max_bytes: Option<Sourced<String>>,
    pub(super) public_urls: Option<Sourced<Vec<String>>>,
    pub(super) insecure_public: Option<Sourced<String>>,
    pub(super) websub_hub: Option<Sourced<String>>,
    pub(super) access: Option<AccessConfig>,
    pub(super) options: Vec<(Term, Options)>,
    pub(super) tls: Option<FileTls>,
    pub(super) cluster: Option<GivenCluster>,
    pub(super) limits: Limits,
    pub(super) quotas: Vec<Quota>,
    pub(super) threads_front: Option<Sourced<i64>>,
    pub(super) threads_delivery: Option<Sourced<i64>>,
}

const KEYS: [&str; 22] = [
    "listen",
    "admin_listen",
    "trusted_proxies",
    "proxy_header",
    "data",
    "log_level",
    "log_format",
    "access_log",
    "allow_origins",
    "log_max_bytes",
    "max_topics",
    "forget_topics_after",
    "receive_max_bytes",
    "public_urls",
    "insecure_public",
    "websub_hub",
    "access",
    "threads",
    "options",
    "tls",
    "cluster",
    "limits",
];
const THREADS_KEYS: [&str; 2] = ["threads.front", "threads.delivery"];

pub(super) fn parse(file: FileText<'_>) -> Result<FileSettings, ConfigError> {
    let document = DeTable::parse(file.text).map_err(|error| ConfigError::Syntax {
        path: file.path.into(),
        line: error.span().map_or(1, |span| line_of(file.text, &span)),
        problem: error.message().lines().collect::<Vec<_>>().join(", "),
    })?;

    let mut settings = FileSettings::default();
    for (key, value) in document.get_ref() {
        let entry = FileEntry { file, key: key.get_ref().to_string(), span: key.span(), value };
        match entry.key.as_str() {
            "listen" => settings.listen = Some(listen::parse(&entry)?),
            "admin_listen" => settings.admin_listen = Some(entry.text_or_port()?),
            "trusted_proxies" => settings.trusted_proxies = Some(entry.given(entry.list()?)),
            "proxy_header" => settings.proxy_header = Some(entry.given(entry.text()?)),
            "data" => settings.data = Some(entry.given(entry.text()?.into())),
            "log_level" => settings.log_level = Some(entry.given(entry.text()?)),
            "log_format" => settings.log_format = Some(entry.given(entry.text()?)),
            "access_log" => settings.access_log = Some(entry.given(entry.boolean()?.to_string())),
            "allow_origins" => settings.allow_origins = Some(entry.given(entry.list()?)),
            "log_max_bytes" => {
                settings.log_max_bytes = Some(entry.given(entry.number()?.to_string()));
            }
            "max_topics" => settings.max_topics = Some(entry.given(entry.number()?.to_string())),
            "forget_topics_after" => settings.forget_topics_after = Some(entry.given(entry.text()?)),
            "receive_max_bytes" => {
                settings.receive_max_bytes = Some(entry.given(entry.number()?.to_string()));
            }
            "public_urls" => settings.public_urls = Some(entry.given(entry.list()?)),
            "insecure_public" => settings.insecure_public = Some(entry.given(entry.boolean()?.to_string())),
            "websub_hub" => settings.websub_hub = Some(entry.given(entry.text()?)),
            "access" => settings.access = Some(access::parse(&entry)?),
            "options" => settings.options = options::parse(&entry)?,
            "tls" => settings.tls = Some(tls::parse(&entry)?),
            "cluster" => settings.cluster = Some(cluster::parse(&entry)?),
            "limits" => (settings.limits, settings.quotas) = limits::parse(&entry)?,
            "threads" => parse_threads(&entry, &mut settings)?,
            _ => return Err(entry.unknown(hint(&entry.key, &KEYS))),
        }
    }
    Ok(settings)
}

fn parse_threads(threads: &FileEntry<'_, '_>, settings: &mut FileSettings) -> Result<(), ConfigError> {
    let table = threads
        .value
        .get_ref()
        .as_table()
        .ok_or_else(|| threads.mistyped("a table with front and delivery"))?;
    for (key, value) in table {
        let key_text = format!("threads.{}", key.get_ref());
        let entry = FileEntry { file: threads.file, key: key_text, span: key.span(), value };
        match entry.key.as_str() {
            "threads.front" => settings.threads_front = Some(entry.given(entry.number()?)),
            "threads.delivery" => settings.threads_delivery = Some(entry.given(entry.number()?)),
            _ => return Err(entry.unknown(hint(&entry.key, &THREADS_KEYS))),
        }
    }
    Ok(())
}
