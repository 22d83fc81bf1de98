//! From the settings to a connection's: secrets and certificates are read here.

use std::{io, path::Path};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tailwire_access::config::Source;
use tailwire_jetstream::{JetStreamSettings, NatsCredentials};

use crate::{
    access::read_source,
    config::{ClusterSettings, ServeSettings},
    machine,
};

/// What can't be read. A sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("{what}: {problem}")]
    Unreadable { what: String, problem: String },
}

/// What the stream is connected by.
pub(crate) fn jetstream_settings(
    settings: &ServeSettings,
    cluster: &ClusterSettings,
) -> Result<JetStreamSettings, CredentialsError> {
    let node = cluster.node.clone().unwrap_or_else(|| machine::name(settings.listen.port));
    Ok(JetStreamSettings {
        servers: cluster.servers.clone(),
        stream: cluster.stream.clone(),
        replicas: cluster.replicas,
        credentials: credentials(cluster)?,
        tls: tls(cluster)?,
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

/// TLS where an authority or a certificate is set.
fn tls(cluster: &ClusterSettings) -> Result<Option<ClientConfig>, CredentialsError> {
    let Some(ca) = &cluster.ca else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    let certificates = read(ca, pem_certificates)?;
    let unusable = |path: &Path, problem: String| CredentialsError::Unreadable {
        what: path.display().to_string(),
        problem,
    };
    for certificate in certificates {
        roots.add(certificate).map_err(|error| unusable(ca, error.to_string()))?;
    }
    let provider = std::sync::Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(ca, error.to_string()))?
        .with_root_certificates(roots);
    let (Some(cert), Some(key)) = (&cluster.cert, &cluster.key) else {
        return Ok(Some(builder.with_no_client_auth()));
    };
    let chain = read(cert, pem_certificates)?;
    let private = read(key, |path| PrivateKeyDer::from_pem_file(path).map_err(io::Error::other))?;
    let config = builder.with_client_auth_cert(chain, private);
    config.map(Some).map_err(|error| unusable(cert, error.to_string()))
}

fn pem_certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    if found.is_empty() { Err(io::Error::other("it has no certificate")) } else { Ok(found) }
}

fn read<T>(path: &Path, read: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, CredentialsError> {
    read(path).map_err(|error| CredentialsError::Unreadable {
        what: path.display().to_string(),
        problem: machine::describe(&error),
    })
}
