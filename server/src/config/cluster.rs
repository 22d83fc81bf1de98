//! The `[cluster]` of the settings file with its flags: the NATS servers whose stream the node follows, how it says who it
//! is, and where the servers' own settings are asked. Files are named here and read elsewhere.

use std::path::PathBuf;

use super::{
    entry::FileEntry,
    source::{ConfigError, Sourced, hint},
    values,
};

/// A cluster as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterSettings {
    /// URLs of NATS servers.
    pub(crate) servers: Vec<String>,
    /// The name of the stream.
    pub(crate) stream: String,
    /// How many servers hold it.
    pub(crate) replicas: usize,
    /// The URLs by which the servers' monitors are asked.
    pub(crate) monitors: Vec<String>,
    /// Bytes that the stream has beyond the newest checkpoint before the next one is made, at least.
    pub(crate) checkpoint_bytes: u64,
    /// The node's name; by default that of its machine, with the port.
    pub(crate) node: Option<String>,
    /// Name, with `password`.
    pub(crate) user: Option<String>,
    /// Where the password is: `file:PATH`, `env:NAME`, or itself.
    pub(crate) password: Option<String>,
    /// The same of a token.
    pub(crate) token: Option<String>,
    /// Authorities that the servers' certificates are verified by; with it all is TLS.
    pub(crate) ca: Option<PathBuf>,
    /// A certificate of the node's own.
    pub(crate) cert: Option<PathBuf>,
    /// Its private key.
    pub(crate) key: Option<PathBuf>,
}

/// The `[cluster]` of a file, and of flags and variables, as far as it goes.
#[derive(Debug, Default)]
pub(super) struct GivenCluster {
    pub(super) servers: Option<Sourced<Vec<String>>>,
    pub(super) stream: Option<Sourced<String>>,
    pub(super) replicas: Option<Sourced<String>>,
    pub(super) monitors: Option<Sourced<Vec<String>>>,
    pub(super) checkpoint_bytes: Option<Sourced<String>>,
    pub(super) node: Option<Sourced<String>>,
    pub(super) user: Option<Sourced<String>>,
    pub(super) password: Option<Sourced<String>>,
    pub(super) token: Option<Sourced<String>>,
    pub(super) ca: Option<Sourced<PathBuf>>,
    pub(super) cert: Option<Sourced<PathBuf>>,
    pub(super) key: Option<Sourced<PathBuf>>,
    pub(super) origin: Option<Sourced<()>>,
}

const KEYS: [&str; 12] = [
    "cluster.servers",
    "cluster.stream",
    "cluster.replicas",
    "cluster.monitors",
    "cluster.checkpoint_bytes",
    "cluster.node",
    "cluster.user",
    "cluster.password",
    "cluster.token",
    "cluster.ca",
    "cluster.cert",
    "cluster.key",
];
const STREAM_DEFAULT: &str = "TAILWIRE";
const STREAM_CHARS_MAX: usize = 64;
const REPLICAS_DEFAULT: usize = 3;
/// A node reads so much of the stream in some seconds.
const CHECKPOINT_BYTES_DEFAULT: u64 = 256 << 20;
const NODE_CHARS_MAX: usize = 64;

/// Reads the table.
pub(super) fn parse(cluster: &FileEntry<'_, '_>) -> Result<GivenCluster, ConfigError> {
    let table = cluster.value.get_ref().as_table().ok_or_else(|| cluster.mistyped("a table"))?;
    let mut own = GivenCluster { origin: Some(cluster.given(())), ..GivenCluster::default() };
    for (key, value) in table {
        let key_text = format!("cluster.{}", key.get_ref());
        let entry = FileEntry { file: cluster.file, key: key_text, span: key.span(), value };
        let text = || Ok::<_, ConfigError>(Some(entry.given(entry.text()?)));
        let path = || Ok::<_, ConfigError>(Some(entry.given(PathBuf::from(entry.text()?))));
        match entry.key.as_str() {
            "cluster.servers" => own.servers = Some(entry.given(entry.list()?)),
            "cluster.stream" => own.stream = text()?,
            "cluster.replicas" => own.replicas = Some(entry.given(entry.number()?.to_string())),
            "cluster.monitors" => own.monitors = Some(entry.given(entry.list()?)),
            "cluster.checkpoint_bytes" => {
                own.checkpoint_bytes = Some(entry.given(entry.number()?.to_string()));
            }
            "cluster.node" => own.node = text()?,
            "cluster.user" => own.user = text()?,
            "cluster.password" => own.password = text()?,
            "cluster.token" => own.token = text()?,
            "cluster.ca" => own.ca = path()?,
            "cluster.cert" => own.cert = path()?,
            "cluster.key" => own.key = path()?,
            _ => return Err(entry.unknown(hint(&entry.key, &KEYS))),
        }
    }
    Ok(own)
}

impl GivenCluster {
    /// What flags and variables say goes before what the file says.
    pub(super) fn over(self, file: Option<Self>) -> Self {
        let file = file.unwrap_or_default();
        Self {
            servers: self.servers.or(file.servers),
            stream: self.stream.or(file.stream),
            replicas: self.replicas.or(file.replicas),
            monitors: self.monitors.or(file.monitors),
            checkpoint_bytes: self.checkpoint_bytes.or(file.checkpoint_bytes),
            node: self.node.or(file.node),
            ..file
        }
    }

    /// Settles the cluster, if there is one.
    pub(super) fn settle(self) -> Result<Option<ClusterSettings>, ConfigError> {
        let refuse = |origin, problem: &str| ConfigError::Value { origin, problem: problem.to_owned() };
        let Some(servers) = self.servers else {
            let texts = [self.replicas, self.checkpoint_bytes, self.node];
            let alone = texts.map(|given| given.map(Sourced::source));
            let alone =
                alone.into_iter().flatten().chain(self.monitors.map(Sourced::source)).chain(self.origin);
            return match alone.last() {
                Some(given) => Err(refuse(given.origin, "needs the NATS servers: --cluster, or servers")),
                None => Ok(None),
            };
        };
        let servers_origin = servers.origin.clone();
        let servers =
            servers.read(|list| list.iter().map(|text| server(text)).collect::<Result<Vec<_>, _>>())?;
        if servers.is_empty() {
            return Err(refuse(
                servers_origin,
                "can't be empty: it is a list of URLs, as nats://nats-1:4222",
            ));
        }
        if self.user.is_some() && self.token.is_some() {
            return Err(refuse(servers_origin, "has both user and token beside it: choose one"));
        }
        if self.user.is_some() != self.password.is_some() {
            return Err(refuse(servers_origin, "needs user and password together, or neither"));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err(refuse(servers_origin, "needs cert and key together, or neither"));
        }
        if let (Some(cert), None) = (&self.cert, &self.ca) {
            return Err(refuse(cert.origin.clone(), "needs ca beside it: without one nothing is TLS"));
        }
        let value = |given: Option<Sourced<String>>| given.map(|given| given.value);
        let file = |given: Option<Sourced<PathBuf>>| given.map(|given| given.read(values::file)).transpose();
        Ok(Some(ClusterSettings {
            servers,
            stream: self.stream.map_or_else(|| Ok(STREAM_DEFAULT.to_owned()), |given| given.read(stream))?,
            replicas: self
                .replicas
                .map_or(Ok(REPLICAS_DEFAULT), |given| given.read(|text| replicas(&text)))?,
            monitors: self.monitors.map_or_else(
                || Ok(Vec::new()),
                |given| given.read(|list| list.iter().map(|text| monitor(text)).collect()),
            )?,
            checkpoint_bytes: self
                .checkpoint_bytes
                .map_or(Ok(CHECKPOINT_BYTES_DEFAULT), |given| given.read(|text| values::bytes(&text)))?,
            node: self.node.map(|given| given.read(node)).transpose()?,
            user: value(self.user),
            password: value(self.password),
            token: value(self.token),
            ca: file(self.ca)?,
            cert: file(self.cert)?,
            key: file(self.key)?,
        }))
    }
}

fn server(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://"));
    match rest {
        Some(host) if !host.is_empty() && !host.contains(['/', ' ', ',']) => Ok(text.to_owned()),
        _ => Err(format!("can't be `{text}`: it is a URL of a NATS server, as nats://nats-1:4222")),
    }
}

fn monitor(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !host.contains([' ', ',', '?']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("can't be `{text}`: it is the URL of a server's monitor, as http://nats-1:8222")),
    }
}

/// What NATS takes for a name, and a subject for a part.
fn stream(text: String) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || text.len() > STREAM_CHARS_MAX || !text.bytes().all(is_name) {
        return Err(format!("can't be `{text}`: it is 1 to {STREAM_CHARS_MAX} of A-Z, a-z, 0-9, _ and -"));
    }
    Ok(text)
}

fn replicas(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        _ => Err(format!("can't be {text}: it is 3 or 5, or 1 for a trial that no server outlives")),
    }
}

fn node(text: String) -> Result<String, String> {
    if text.is_empty() || text.len() > NODE_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(format!("can't be `{text}`: it is a name of 1 to {NODE_CHARS_MAX} characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{super::source::SettingSource, *};

    fn given<T>(value: T) -> Option<Sourced<T>> {
        Some(Sourced { value, origin: SettingSource::Flag("--cluster") })
    }

    fn settle(servers: &[&str], replicas: Option<&str>) -> Result<Option<ClusterSettings>, String> {
        let servers = given(servers.iter().map(|&text| text.to_owned()).collect());
        let replicas = replicas.and_then(|text| given(text.to_owned()));
        let cluster = GivenCluster { servers, replicas, ..GivenCluster::default() };
        cluster.settle().map_err(|error| error.to_string())
    }

    #[test]
    fn servers_make_a_cluster() {
        let cluster = settle(&["nats://a:4222", "tls://b"], None).unwrap().unwrap();
        assert_eq!((cluster.stream.as_str(), cluster.replicas), ("TAILWIRE", 3));
        assert_eq!(GivenCluster::default().settle(), Ok(None));
        assert_eq!(settle(&["nats://a"], Some("1")).unwrap().unwrap().replicas, 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (servers, replicas, expect) in [
            (&["a:4222"][..], None, "--cluster can't be `a:4222`: it is a URL of a NATS server"),
            (&["nats://"][..], None, "--cluster can't be `nats://`"),
            (&[][..], None, "--cluster can't be empty"),
            (&["nats://a"][..], Some("2"), "--cluster can't be 2: it is 3 or 5, or 1 for a trial"),
        ] {
            let error = settle(servers, replicas).unwrap_err();
            assert!(error.starts_with(expect), "{error}");
        }
        let cert = GivenCluster {
            servers: given(vec!["nats://a".to_owned()]),
            cert: given("cert.pem".into()),
            key: given("key.pem".into()),
            ..GivenCluster::default()
        };
        assert!(cert.settle().unwrap_err().to_string().contains("needs ca beside it"));
        let alone = GivenCluster { node: given("a".to_owned()), ..GivenCluster::default() };
        assert!(alone.settle().unwrap_err().to_string().contains("needs the NATS servers"));
    }
}
