//! From the settings to a connection's: secrets and certificates are read here.

use rustls::ClientConfig;
use tailwire_access::config::Source;
use tailwire_jetstream::{JetStreamSettings, NatsCredentials};

use crate::{
    access::read_source,
    config::{ClusterSettings, ListenSettings, ServeSettings},
    machine,
    tls::{self, TlsError},
};

/// What can't be read. A sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("{what}: {problem}")]
    Unreadable { what: String, problem: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What the stream is connected by.
pub(crate) fn jetstream_settings(
    settings: &ServeSettings,
    cluster: &ClusterSettings,
) -> Result<JetStreamSettings, CredentialsError> {
    let node = cluster.node.clone().unwrap_or_else(|| {
        machine::name(settings.listen.iter().find_map(ListenSettings::port).unwrap_or_default())
    });
    Ok(JetStreamSettings {
        servers: cluster.servers.clone(),
        stream: cluster.stream.clone(),
        replicas: cluster.replicas,
        credentials: credentials(cluster)?,
        tls: tls(cluster)?,
        topics_max: settings.max_topics,
        node,
    })
}

fn credentials(cluster: &ClusterSettings) -> Result<NatsCredentials, CredentialsError> {
    if let (Some(name), Some(password)) = (&cluster.user, &cluster.password) {
        return Ok(NatsCredentials::User {
            name: name.clone(),
            password: secret("cluster.password", password)?,
        });
    }
    if let Some(token) = &cluster.token {
        return Ok(NatsCredentials::Token(secret("cluster.token", token)?));
    }
    Ok(NatsCredentials::None)
}

fn secret(key: &str, given: &str) -> Result<String, CredentialsError> {
    let unreadable = |problem: String| CredentialsError::Unreadable { what: key.to_owned(), problem };
    let source: Source = given.parse().map_err(|error| unreadable(format!("{error}")))?;
    let content = read_source(&source).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(source.secret(&content).to_owned());
    text.map(|text| text.trim().to_owned()).map_err(|_| unreadable("it is not UTF-8".to_owned()))
}

/// TLS where an authority is set.
fn tls(cluster: &ClusterSettings) -> Result<Option<ClientConfig>, TlsError> {
    let Some(ca) = &cluster.ca else { return Ok(None) };
    let config = |error: rustls::Error| TlsError::Config(error.to_string());
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(config)?
        .with_root_certificates(tls::roots(ca)?);
    let (Some(cert), Some(key)) = (&cluster.cert, &cluster.key) else {
        return Ok(Some(builder.with_no_client_auth()));
    };
    let (chain, key) = (tls::chain(cert, &tls::read(cert)?)?, tls::private_key(key, &tls::read(key)?)?);
    builder.with_client_auth_cert(chain, key).map(Some).map_err(config)
}
