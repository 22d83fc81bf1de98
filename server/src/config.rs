//! Settings of `serve`, by flag, variable or file, in this order of precedence. Pure: what the
//! sources hold is passed in, and every refusal says which source it blames.

mod access;
mod args;
mod cluster;
mod entry;
mod file;
mod limits;
mod listen;
mod options;
mod source;
mod tls;
mod values;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use tailwire_access::config::AccessConfig;
use tailwire_http::{Limits, TrustedProxies};
use tailwire_model::{
    Options, Quota, Term,
    limits::{FORGET_TOPICS_AFTER_MS, RECEIVE_BYTES_MAX, TOPICS_MAX},
};

pub(crate) use access::line_of_key;
pub(crate) use args::{SERVE_NOTES, ServeArgs};
pub(crate) use cluster::ClusterSettings;
pub(crate) use limits::bounds_set;
pub(crate) use listen::{ListenAddress, ListenSettings, proxies_written, proxy_header_written};
pub(crate) use source::{ConfigError, FileText, SettingSource};
pub(crate) use tls::{AcmeSettings, CertificateFiles, TlsSettings};
pub(crate) use values::{LETSENCRYPT, LETSENCRYPT_STAGING, LogFormat, PublicUrl, time_text};

use cluster::GivenCluster;
use source::{Sourced, hint};

/// All settings of `tailwire serve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServeSettings {
    /// Where to listen, at least one.
    pub(crate) listen: Vec<ListenSettings>,
    /// Where metrics and health are asked for.
    pub(crate) admin_listen: Option<ListenAddress>,
    /// Proxies whose word on their clients counts.
    pub(crate) trusted_proxies: TrustedProxies,
    /// The folder of the log.
    pub(crate) data: PathBuf,
    /// Directives for the log on stderr.
    pub(crate) log_level: String,
    /// Format of that log.
    pub(crate) log_format: LogFormat,
    /// Whether each request is logged.
    pub(crate) access_log: bool,
    /// Origins whose pages may use the broker; `*` is any.
    pub(crate) allow_origins: Vec<String>,
    /// By which URLs clients reach the broker; the first is what tokens are for.
    pub(crate) public_urls: Vec<PublicUrl>,
    /// The WebSub hub that feeds name.
    pub(crate) websub_hub: Option<String>,
    /// Whether everybody who reaches a public address may do everything.
    pub(crate) insecure_public: bool,
    /// Access control; without it everything is permitted to everybody.
    pub(crate) access: Option<AccessConfig>,
    /// How the machine's threads are shared.
    pub(crate) threads: Threads,
    /// How many bytes all messages may take.
    pub(crate) log_max_bytes: Option<u64>,
    /// How many topics there may be.
    pub(crate) max_topics: u64,
    /// How long a topic that holds nothing is known after its newest message, in milliseconds; for good if that isn't set.
    pub(crate) forget_topics_after_ms: Option<u64>,
    /// Memory for what all clients have begun to send and not yet sent whole.
    pub(crate) receive_max_bytes: usize,
    /// Options of topics and patterns as far as no client sets others.
    pub(crate) options: Vec<(Term, Options)>,
    /// Whether a log is opened that has less than what was acknowledged.
    pub(crate) accepts_loss: bool,
    /// TLS of all listeners; without it they speak in clear text.
    pub(crate) tls: Option<TlsSettings>,
    /// The cluster that the broker is a node of; without it it is alone.
    pub(crate) cluster: Option<ClusterSettings>,
    /// How much each client may do.
    pub(crate) limits: Limits,
    /// How much the topics of patterns may have.
    pub(crate) quotas: Vec<Quota>,
}

/// Threads of the two runtimes; 0 leaves the number to the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Threads {
    /// Accept, parse, publish, answer.
    pub(crate) front: usize,
    /// Write to streams: the number of shards.
    pub(crate) delivery: usize,
}

const DATA_DEFAULT: &str = "./tailwire-data";
const LOG_LEVEL_DEFAULT: &str = "info";

const LISTEN_VARIABLE: &str = "TAILWIRE_LISTEN";
const ADMIN_LISTEN_VARIABLE: &str = "TAILWIRE_ADMIN_LISTEN";
const TRUSTED_PROXY_VARIABLE: &str = "TAILWIRE_TRUSTED_PROXY";
const DATA_VARIABLE: &str = "TAILWIRE_DATA";
const LOG_LEVEL_VARIABLE: &str = "TAILWIRE_LOG_LEVEL";
const LOG_FORMAT_VARIABLE: &str = "TAILWIRE_LOG_FORMAT";
const ACCESS_LOG_VARIABLE: &str = "TAILWIRE_ACCESS_LOG";
const ALLOW_ORIGIN_VARIABLE: &str = "TAILWIRE_ALLOW_ORIGIN";
const PUBLIC_URL_VARIABLE: &str = "TAILWIRE_PUBLIC_URL";
const INSECURE_PUBLIC_VARIABLE: &str = "TAILWIRE_INSECURE_PUBLIC";
const LOG_MAX_BYTES_VARIABLE: &str = "TAILWIRE_LOG_MAX_BYTES";
const MAX_TOPICS_VARIABLE: &str = "TAILWIRE_MAX_TOPICS";
const FORGET_TOPICS_AFTER_VARIABLE: &str = "TAILWIRE_FORGET_TOPICS_AFTER";
const RECEIVE_MAX_BYTES_VARIABLE: &str = "TAILWIRE_RECEIVE_MAX_BYTES";
const TLS_CERT_VARIABLE: &str = "TAILWIRE_TLS_CERT";
const TLS_KEY_VARIABLE: &str = "TAILWIRE_TLS_KEY";
const CLUSTER_VARIABLE: &str = "TAILWIRE_CLUSTER";
const CLUSTER_MONITORS_VARIABLE: &str = "TAILWIRE_CLUSTER_MONITORS";
const NODE_VARIABLE: &str = "TAILWIRE_NODE";
const CONFIG_VARIABLE: &str = "TAILWIRE_CONFIG";
const VARIABLES: [&str; 20] = [
    LISTEN_VARIABLE,
    ADMIN_LISTEN_VARIABLE,
    TRUSTED_PROXY_VARIABLE,
    DATA_VARIABLE,
    LOG_LEVEL_VARIABLE,
    LOG_FORMAT_VARIABLE,
    ACCESS_LOG_VARIABLE,
    ALLOW_ORIGIN_VARIABLE,
    PUBLIC_URL_VARIABLE,
    INSECURE_PUBLIC_VARIABLE,
    LOG_MAX_BYTES_VARIABLE,
    MAX_TOPICS_VARIABLE,
    FORGET_TOPICS_AFTER_VARIABLE,
    RECEIVE_MAX_BYTES_VARIABLE,
    TLS_CERT_VARIABLE,
    TLS_KEY_VARIABLE,
    CLUSTER_VARIABLE,
    CLUSTER_MONITORS_VARIABLE,
    NODE_VARIABLE,
    CONFIG_VARIABLE,
];
const VARIABLE_PREFIX: &str = "TAILWIRE_";

/// The variables that concern the broker. An empty one counts as not set, as container tools can't unset one.
#[derive(Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Takes the broker's variables out of all of the process's.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let ours = variables
            .into_iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, value)| name.starts_with(VARIABLE_PREFIX) && !value.is_empty())
            .filter(|(name, value)| !is_service_link(name, value));
        Self(ours.collect())
    }

    fn get(&self, name: &'static str) -> Option<Sourced<&OsStr>> {
        let value = self.0.get(name)?;
        Some(Sourced { value, origin: SettingSource::Variable(name) })
    }

    fn path(&self, name: &'static str) -> Option<Sourced<PathBuf>> {
        self.get(name).map(|given| Sourced { value: given.value.into(), origin: given.origin })
    }

    fn text(&self, name: &'static str) -> Result<Option<Sourced<String>>, ConfigError> {
        let Some(Sourced { value, origin }) = self.get(name) else {
            return Ok(None);
        };
        match value.to_str() {
            Some(text) => Ok(Some(Sourced { value: text.to_owned(), origin })),
            None => Err(ConfigError::Value { origin, problem: "is not UTF-8".to_owned() }),
        }
    }

    /// A list, separated by commas.
    fn list(&self, name: &'static str) -> Result<Option<Sourced<Vec<String>>>, ConfigError> {
        let given = self.text(name)?;
        Ok(given.map(|given| Sourced { value: values::split_list(&given.value), origin: given.origin }))
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        match self.0.keys().find(|name| !VARIABLES.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                Err(ConfigError::UnknownVariable { name: name.clone(), hint: hint(name, &VARIABLES) })
            }
        }
    }
}

/// Kubernetes and Docker links set such variables by themselves beside a service that is named `tailwire`.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let after_port =
        name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    let is_url = value.to_string_lossy().contains("://");
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || after_port
        || name.ends_with("_PORT") && is_url
}

/// The settings file that was named, and by whom.
pub(crate) fn file_path(args: &ServeArgs, env: &Environment) -> Option<(PathBuf, SettingSource)> {
    let flag = args.config.clone().map(|path| (path, SettingSource::Flag("--config")));
    flag.or_else(|| env.get(CONFIG_VARIABLE).map(|given| (PathBuf::from(given.value), given.origin)))
}

/// Settles every setting from its sources.
///
/// # Errors
/// The first thing that is wrong in any of them.
pub(crate) fn settle(
    args: &ServeArgs,
    env: &Environment,
    file: Option<FileText<'_>>,
) -> Result<ServeSettings, ConfigError> {
    env.check_names()?;
    let file = file.map(file::parse).transpose()?.unwrap_or_default();

    let listen = list("--listen", &args.listen).or(env.list(LISTEN_VARIABLE)?);
    let listen = listen.map(|given| given.read(|list| listen::addresses(&list))).transpose()?;
    let listen = listen.or(file.listen).unwrap_or_else(|| vec![ListenSettings::default()]);
    let admin_listen = flag("--admin-listen", args.admin_listen.clone())
        .or(env.text(ADMIN_LISTEN_VARIABLE)?)
        .or(file.admin_listen);
    let proxies = list("--trusted-proxy", &args.trusted_proxies)
        .or(env.list(TRUSTED_PROXY_VARIABLE)?)
        .or(file.trusted_proxies);
    let mut trusted_proxies = proxies
        .map_or_else(|| Ok(TrustedProxies::default()), |given| given.read(|list| listen::proxies(&list)))?;
    if let Some(header) = file.proxy_header {
        trusted_proxies.header = header.read(|text| listen::proxy_header(&text))?;
    }
    let data = flag("--data", args.data.clone()).or(env.path(DATA_VARIABLE)).or(file.data);
    let log_level =
        flag("--log-level", args.log_level.clone()).or(env.text(LOG_LEVEL_VARIABLE)?).or(file.log_level);
    let log_format =
        flag("--log-format", args.log_format.clone()).or(env.text(LOG_FORMAT_VARIABLE)?).or(file.log_format);
    let allow_origins = list("--allow-origin", &args.allow_origins)
        .or(env.list(ALLOW_ORIGIN_VARIABLE)?)
        .or(file.allow_origins);
    let log_max_bytes = flag("--log-max-bytes", args.log_max_bytes.clone())
        .or(env.text(LOG_MAX_BYTES_VARIABLE)?)
        .or(file.log_max_bytes);
    let max_topics =
        flag("--max-topics", args.max_topics.clone()).or(env.text(MAX_TOPICS_VARIABLE)?).or(file.max_topics);
    let forget_topics_after = flag("--forget-topics-after", args.forget_topics_after.clone())
        .or(env.text(FORGET_TOPICS_AFTER_VARIABLE)?)
        .or(file.forget_topics_after);
    let receive_max_bytes = flag("--receive-max-bytes", args.receive_max_bytes.clone())
        .or(env.text(RECEIVE_MAX_BYTES_VARIABLE)?)
        .or(file.receive_max_bytes);

    let public_urls =
        list("--public-url", &args.public_urls).or(env.list(PUBLIC_URL_VARIABLE)?).or(file.public_urls);
    let public_urls: Vec<PublicUrl> = public_urls.map_or_else(
        || Ok(Vec::new()),
        |given| given.read(|list| list.iter().map(|one| values::public_url(one)).collect()),
    )?;
    let insecure_public = flag("--insecure-public", args.insecure_public.then(|| "true".to_owned()))
        .or(env.text(INSECURE_PUBLIC_VARIABLE)?)
        .or(file.insecure_public);
    let insecure_public =
        insecure_public.map_or(Ok(false), |given| given.read(|text| values::boolean(&text)))?;
    let access_log = flag("--access-log", args.access_log.then(|| "true".to_owned()))
        .or(env.text(ACCESS_LOG_VARIABLE)?)
        .or(file.access_log);
    let mut access = file.access;
    if let Some(AccessConfig { audience: audience @ None, .. }) = &mut access {
        *audience = public_urls.first().map(|first| first.url.clone());
    }
    let tls = settle_tls(args, env, file.tls)?;
    let cluster = settle_cluster(args, env, file.cluster)?;
    if args.accept_loss && cluster.is_some() {
        return Err(ConfigError::Value {
            origin: SettingSource::Flag("--accept-loss"),
            problem: "has no meaning in a cluster: a node's log is a copy, and is made again from the stream"
                .to_owned(),
        });
    }

    let threads = |given: Option<Sourced<i64>>| given.map_or(Ok(0), |given| given.read(values::threads));
    Ok(ServeSettings {
        listen,
        admin_listen: admin_listen.map(|given| given.read(|text| listen::address(&text))).transpose()?,
        trusted_proxies,
        data: data.map_or_else(|| Ok(DATA_DEFAULT.into()), |given| given.read(values::folder))?,
        log_level: log_level.map_or_else(
            || Ok(LOG_LEVEL_DEFAULT.to_owned()),
            |given| given.read(|text| values::log_level(&text)),
        )?,
        log_format: log_format
            .map_or_else(|| Ok(LogFormat::default()), |given| given.read(|text| values::log_format(&text)))?,
        allow_origins: allow_origins.map_or_else(
            || Ok(Vec::new()),
            |given| given.read(|list| list.iter().map(|one| values::origin(one)).collect()),
        )?,
        access_log: access_log.map_or(Ok(false), |given| given.read(|text| values::boolean(&text)))?,
        public_urls,
        websub_hub: file.websub_hub.map(|given| given.read(|text| values::hub(&text))).transpose()?,
        insecure_public,
        access,
        threads: Threads { front: threads(file.threads_front)?, delivery: threads(file.threads_delivery)? },
        log_max_bytes: log_max_bytes.map(|given| given.read(|text| values::bytes(&text))).transpose()?,
        max_topics: max_topics
            .map_or(Ok(TOPICS_MAX), |given| given.read(|text| values::count_of_topics(&text)))?,
        forget_topics_after_ms: forget_topics_after.map_or(Ok(Some(FORGET_TOPICS_AFTER_MS)), |given| {
            given.read(|text| values::time_or_never(&text))
        })?,
        receive_max_bytes: receive_max_bytes
            .map_or(Ok(RECEIVE_BYTES_MAX), |given| given.read(|text| values::receive_bytes(&text)))?,
        options: file.options,
        accepts_loss: args.accept_loss,
        tls,
        cluster,
        limits: file.limits,
        quotas: file.quotas,
    })
}

/// A pair that a flag or variable begins is a pair of flags and variables: the file's other half would not fit.
fn settle_tls(
    args: &ServeArgs,
    env: &Environment,
    mut file: Option<tls::FileTls>,
) -> Result<Option<TlsSettings>, ConfigError> {
    let mut cert = flag("--tls-cert", args.tls_cert.clone()).or(env.path(TLS_CERT_VARIABLE));
    let mut key = flag("--tls-key", args.tls_key.clone()).or(env.path(TLS_KEY_VARIABLE));
    if cert.is_none()
        && key.is_none()
        && let Some(file) = &mut file
    {
        (cert, key) = (file.cert.take(), file.key.take());
    }
    tls::settle(cert, key, args.tls_dev, file)
}

fn settle_cluster(
    args: &ServeArgs,
    env: &Environment,
    file: Option<GivenCluster>,
) -> Result<Option<ClusterSettings>, ConfigError> {
    let list = |given: &Option<String>| given.as_deref().map(values::split_list);
    let given = GivenCluster {
        servers: flag("--cluster", list(&args.cluster)).or(env.list(CLUSTER_VARIABLE)?),
        monitors: flag("--cluster-monitors", list(&args.cluster_monitors))
            .or(env.list(CLUSTER_MONITORS_VARIABLE)?),
        replicas: flag("--replicas", args.replicas.clone()),
        checkpoint_bytes: flag("--checkpoint-bytes", args.checkpoint_bytes.clone()),
        node: flag("--node", args.node.clone()).or(env.text(NODE_VARIABLE)?),
        ..GivenCluster::default()
    };
    given.over(file).settle()
}

/// A flag that is given as often as there are values.
fn list(name: &'static str, values: &[String]) -> Option<Sourced<Vec<String>>> {
    flag(name, (!values.is_empty()).then(|| values.to_owned()))
}

fn flag<T>(name: &'static str, value: Option<T>) -> Option<Sourced<T>> {
    value.map(|value| Sourced { value, origin: SettingSource::Flag(name) })
}

#[cfg(test)]
mod tests;
