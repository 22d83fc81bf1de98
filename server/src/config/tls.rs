//! The `[tls]` of the settings file with its flags: which certificates the listeners show, and where they come from. Files are
//! named here and read elsewhere.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::{
    entry::FileEntry,
    source::{ConfigError, SettingSource, Sourced, hint},
    values,
};

/// TLS as it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// Chains and keys, as PEM files. A client that names no host, or one that none is for, gets the first.
    pub(crate) certificates: Vec<CertificateFiles>,
    /// Whether a self-signed certificate is made, and shown first.
    pub(crate) is_dev: bool,
    /// Authorities whose client certificates are verified, as a PEM file. Without it no client is asked for one.
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub(crate) requires_client: bool,
    /// The authority that the broker itself gets a certificate from.
    pub(crate) acme: Option<AcmeSettings>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The chain, the own certificate first.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// ACME as it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AcmeSettings {
    /// The names of the certificate.
    pub(crate) domains: Vec<String>,
    /// Addresses that the authority may write to, as `mailto:` URLs.
    pub(crate) contact: Vec<String>,
    /// The authority's directory: a URL, or one of the known names.
    pub(crate) directory: String,
    /// The root by which the directory's own certificate is verified, as a PEM file, where that isn't in the system's store.
    pub(crate) directory_ca: Option<PathBuf>,
}

/// The `[tls]` of a file, as far as it goes.
#[derive(Debug, Default)]
pub(super) struct FileTls {
    pub(super) cert: Option<Sourced<PathBuf>>,
    pub(super) key: Option<Sourced<PathBuf>>,
    more: Vec<CertificateFiles>,
    client_ca: Option<PathBuf>,
    requires_client: Option<Sourced<bool>>,
    acme: Option<AcmeSettings>,
    origin: Option<Sourced<()>>,
}

const KEYS: [&str; 6] =
    ["tls.cert", "tls.key", "tls.certificate", "tls.client_ca", "tls.client_required", "tls.acme"];
const CERTIFICATE_KEYS: [&str; 2] = ["tls.certificate.cert", "tls.certificate.key"];
const ACME_KEYS: [&str; 5] = [
    "tls.acme.domains",
    "tls.acme.contact",
    "tls.acme.directory",
    "tls.acme.directory_ca",
    "tls.acme.accept_terms",
];

/// Reads the table.
pub(super) fn parse(tls: &FileEntry<'_, '_>) -> Result<FileTls, ConfigError> {
    let mut own = FileTls { origin: Some(tls.given(())), ..FileTls::default() };
    for (key, value) in table(tls)? {
        let entry =
            FileEntry { file: tls.file, key: format!("tls.{}", key.get_ref()), span: key.span(), value };
        match entry.key.as_str() {
            "tls.cert" => own.cert = Some(entry.given(path(&entry)?)),
            "tls.key" => own.key = Some(entry.given(path(&entry)?)),
            "tls.certificate" => own.more = certificates(&entry)?,
            "tls.client_ca" => own.client_ca = Some(path(&entry)?),
            "tls.client_required" => own.requires_client = Some(entry.given(boolean(&entry)?)),
            "tls.acme" => own.acme = Some(acme(&entry)?),
            _ => return Err(entry.unknown(hint(&entry.key, &KEYS))),
        }
    }
    Ok(own)
}

/// Settles TLS: the first pair from its sources, and all else from the file.
pub(super) fn settle(
    cert: Option<Sourced<PathBuf>>,
    key: Option<Sourced<PathBuf>>,
    is_dev: bool,
    file: Option<FileTls>,
) -> Result<Option<TlsSettings>, ConfigError> {
    let refuse = |given: Sourced<()>, problem: &str| ConfigError::Value {
        origin: given.origin,
        problem: problem.to_owned(),
    };
    let file = file.unwrap_or_default();
    let mut certificates = Vec::new();
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let files = CertificateFiles { cert: cert.read(values::file)?, key: key.read(values::file)? };
            certificates.push(files);
        }
        (Some(alone), None) => return Err(refuse(alone.source(), "needs the private key beside it")),
        (None, Some(alone)) => return Err(refuse(alone.source(), "needs the certificate beside it")),
        (None, None) => {}
    }
    certificates.extend(file.more);
    if is_dev && !(certificates.is_empty() && file.acme.is_none()) {
        let problem = "is for trying, without other certificates".to_owned();
        return Err(ConfigError::Value { origin: SettingSource::Flag("--tls-dev"), problem });
    }
    if certificates.is_empty() && file.acme.is_none() && !is_dev {
        return match file.origin {
            Some(origin) => Err(refuse(origin, "needs cert and key, or [tls.acme]")),
            None => Ok(None),
        };
    }
    let requires_client = file.requires_client.as_ref().is_some_and(|given| given.value);
    if let (true, None, Some(given)) = (requires_client, &file.client_ca, file.requires_client) {
        return Err(refuse(given.source(), "needs client_ca, by which clients are verified"));
    }
    let (client_ca, acme) = (file.client_ca, file.acme);
    Ok(Some(TlsSettings { certificates, is_dev, client_ca, requires_client, acme }))
}

fn certificates(list: &FileEntry<'_, '_>) -> Result<Vec<CertificateFiles>, ConfigError> {
    let wrong = || list.mistyped("a list of tables, each headed [[tls.certificate]]");
    let items = list.value.get_ref().as_array().ok_or_else(wrong)?;
    let one = |value| {
        let item = FileEntry { file: list.file, key: list.key.clone(), span: list.span.clone(), value };
        let (mut cert, mut key) = (None, None);
        for (name, value) in value.get_ref().as_table().ok_or_else(wrong)? {
            let name_text = format!("tls.certificate.{}", name.get_ref());
            let entry = FileEntry { file: list.file, key: name_text, span: name.span(), value };
            match entry.key.as_str() {
                "tls.certificate.cert" => cert = Some(path(&entry)?),
                "tls.certificate.key" => key = Some(path(&entry)?),
                _ => return Err(entry.unknown(hint(&entry.key, &CERTIFICATE_KEYS))),
            }
        }
        let pair = cert.zip(key).map(|(cert, key)| CertificateFiles { cert, key });
        pair.ok_or_else(|| item.wrong("needs cert and key, each time"))
    };
    items.iter().map(one).collect()
}

fn acme(acme: &FileEntry<'_, '_>) -> Result<AcmeSettings, ConfigError> {
    let mut own = AcmeSettings { directory: values::LETSENCRYPT.to_owned(), ..AcmeSettings::default() };
    let mut has_accepted = false;
    for (key, value) in table(acme)? {
        let name = format!("tls.acme.{}", key.get_ref());
        let entry = FileEntry { file: acme.file, key: name, span: key.span(), value };
        match entry.key.as_str() {
            "tls.acme.domains" => own.domains = read_all(&entry, values::domain)?,
            "tls.acme.contact" => own.contact = read_all(&entry, values::contact)?,
            "tls.acme.directory" => {
                own.directory = entry.given(entry.text()?).read(|text| values::acme_directory(&text))?;
            }
            "tls.acme.directory_ca" => own.directory_ca = Some(path(&entry)?),
            "tls.acme.accept_terms" => has_accepted = boolean(&entry)?,
            _ => return Err(entry.unknown(hint(&entry.key, &ACME_KEYS))),
        }
    }
    if own.domains.is_empty() {
        return Err(acme.wrong("needs domains: the names that the certificate is for"));
    }
    if !has_accepted {
        return Err(acme.wrong("needs accept_terms = true: read the authority's terms of service first"));
    }
    Ok(own)
}

fn table<'a, 'i>(entry: &FileEntry<'a, 'i>) -> Result<&'a DeTable<'i>, ConfigError> {
    entry.value.get_ref().as_table().ok_or_else(|| entry.mistyped("a table"))
}

fn path(entry: &FileEntry<'_, '_>) -> Result<PathBuf, ConfigError> {
    entry.given(entry.text()?.into()).read(values::file)
}

fn boolean(entry: &FileEntry<'_, '_>) -> Result<bool, ConfigError> {
    match entry.value.get_ref() {
        DeValue::Boolean(value) => Ok(*value),
        _ => Err(entry.mistyped("true or false")),
    }
}

fn read_all(
    entry: &FileEntry<'_, '_>,
    read: fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, ConfigError> {
    entry.given(entry.list()?).read(|list| list.iter().map(|text| read(text)).collect())
}
