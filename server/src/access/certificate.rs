//! The name that a client certificate stands for. The certificate itself was verified with the connection.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The common name of the subject, where it has one; else the first URI among its alternative names, as of SPIFFE, or the first
/// name of a host. Several common names are none: nobody can tell which of them is meant.
pub(super) fn name_of(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => return name.as_str().ok().map(str::to_owned),
        (Some(_), Some(_)) => return None,
        (None, _) => {}
    }
    let alternative = certificate.subject_alternative_name().ok()??;
    let names = &alternative.value.general_names;
    let uri = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let host = names.iter().find_map(|name| match name {
        GeneralName::DNSName(host) => Some(*host),
        _ => None,
    });
    uri.or(host).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn named(common: &[&str], alternative: Vec<SanType>) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        common.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, *name));
        params.subject_alt_names = alternative;
        name_of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn a_certificate_has_one_name() {
        let host = || SanType::DnsName("device.example".try_into().unwrap());
        let uri = || SanType::URI("spiffe://example/device".try_into().unwrap());
        assert_eq!(named(&["alice"], vec![host(), uri()]).as_deref(), Some("alice"));
        assert_eq!(named(&[], vec![host(), uri()]).as_deref(), Some("spiffe://example/device"));
        assert_eq!(named(&[], vec![host()]).as_deref(), Some("device.example"));
        assert_eq!(named(&[], vec![]), None);
        assert_eq!(name_of(b"no certificate"), None);
    }
}
