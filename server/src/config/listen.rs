//! Where to listen, and what holds there: `listen`, which is one address or a list, and `trusted_proxies`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use tailwire_http::{ProxyHeader, TrustedProxies};
use toml::de::{DeTable, DeValue};

use super::{
    entry::FileEntry,
    source::{ConfigError, hint},
};

const PORT_DEFAULT: u16 = 8245;
const UNIX: &str = "unix:";
const PASSED: &str = "systemd";
/// The owner and the group of the socket's file, which a proxy may be a member of.
const MODE_DEFAULT: u32 = 0o660;
const KEYS: [&str; 5] =
    ["listen.address", "listen.tls", "listen.mode", "listen.proxy_protocol", "listen.read_only"];
/// The word for the Unix socket among the proxies.
const OVER_UNIX: &str = "unix";
const PROXY_HEADERS: [&str; 2] = ["x-forwarded-for", "forwarded"];

/// One listener as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenSettings {
    /// Where.
    pub(crate) address: ListenAddress,
    /// Whether it speaks TLS, where there are certificates.
    pub(crate) tls: bool,
    /// The permissions of a Unix socket's file.
    pub(crate) mode: u32,
    /// Whether connections begin with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// Whether nothing can be changed there.
    pub(crate) read_only: bool,
}

/// Where to listen. A name stays a name here: looking it up is not a matter of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// A name or an address, without brackets, and a port; 0 lets the system choose one.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
    /// A socket that the service manager has opened, by its number.
    Passed(usize),
}

impl From<ListenAddress> for ListenSettings {
    fn from(address: ListenAddress) -> Self {
        let tls = !matches!(address, ListenAddress::Unix(_));
        Self { address, tls, mode: MODE_DEFAULT, proxy_protocol: false, read_only: false }
    }
}

impl ListenSettings {
    /// Its port, if it has one that was chosen here.
    pub(crate) const fn port(&self) -> Option<u16> {
        match self.address {
            ListenAddress::Tcp(_, port) => Some(port),
            ListenAddress::Unix(_) | ListenAddress::Passed(_) => None,
        }
    }
}

impl Default for ListenSettings {
    fn default() -> Self {
        ListenAddress::Tcp(Ipv4Addr::LOCALHOST.to_string(), PORT_DEFAULT).into()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Passed(number) => write!(f, "{PASSED}:{number}"),
        }
    }
}

/// As it stands in the settings file.
impl fmt::Display for ListenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = toml::Value::String(self.address.to_string());
        let plain = Self::from(self.address.clone());
        if *self == plain {
            return write!(f, "{address}");
        }
        write!(f, "{{ address = {address}")?;
        let flags = [
            ("tls", self.tls, plain.tls),
            ("proxy_protocol", self.proxy_protocol, false),
            ("read_only", self.read_only, false),
        ];
        for (name, own, default) in flags {
            if own != default {
                write!(f, ", {name} = {own}")?;
            }
        }
        if self.mode != plain.mode {
            write!(f, ", mode = \"{:04o}\"", self.mode)?;
        }
        f.write_str(" }")
    }
}

/// Reads an address. `8080` is a port of this machine alone; `:8080` is one of every interface, as other servers have it.
pub(super) fn address(text: &str) -> Result<ListenAddress, String> {
    let text = text.trim();
    let wrong = || {
        format!(
            "can't be `{text}`: it is a port, :port or host:port, as in 127.0.0.1:8080, unix:PATH, or systemd:NUMBER for \
             a socket that is passed"
        )
    };
    let at = |host: &dyn fmt::Display, port| ListenAddress::Tcp(host.to_string(), port);

    if let Some(path) = text.strip_prefix(UNIX) {
        return if path.is_empty() { Err(wrong()) } else { Ok(ListenAddress::Unix(path.into())) };
    }
    if text == PASSED {
        return Ok(ListenAddress::Passed(0));
    }
    if let Some(number) = text.strip_prefix(PASSED).and_then(|rest| rest.strip_prefix(':')) {
        return number.parse().map(ListenAddress::Passed).map_err(|_| wrong());
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(|port| at(&Ipv4Addr::LOCALHOST, port)).map_err(|_| wrong());
    }
    if let Some((host, port)) = zoned(text) {
        return Ok(at(&host, port));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(at(&address.ip(), address.port()));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(at(&ip, PORT_DEFAULT));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (text, PORT_DEFAULT),
    };
    if host.is_empty() && text.starts_with(':') {
        return Ok(at(&Ipv4Addr::UNSPECIFIED, port));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
    // Only digits and dots, and yet no address: a mistyped one, which would otherwise be looked up as a name.
    let is_digits = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if host.is_empty() || is_digits || !host.bytes().all(is_name) {
        return Err(wrong());
    }
    Ok(at(&host, port))
}

/// Reads an address of one link alone, as `fe80::1%eth0`: the system knows the zone.
fn zoned(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once("]:") {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (rest.strip_suffix(']')?, PORT_DEFAULT),
        },
        None => (text, PORT_DEFAULT),
    };
    let (address, zone) = host.split_once('%')?;
    let is_zone =
        !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    (is_zone && address.parse::<Ipv6Addr>().is_ok()).then_some((host, port))
}

/// Reads a list of addresses.
pub(super) fn addresses(list: &[String]) -> Result<Vec<ListenSettings>, String> {
    let all: Vec<_> = list.iter().map(|text| address(text).map(Into::into)).collect::<Result<_, _>>()?;
    if all.is_empty() { Err("can't be empty: it is at least one address".to_owned()) } else { Ok(all) }
}

/// Reads `listen` of a file: an address, a port, or a list of these and of tables.
pub(super) fn parse(entry: &FileEntry<'_, '_>) -> Result<Vec<ListenSettings>, ConfigError> {
    let DeValue::Array(items) = entry.value.get_ref() else {
        let own = entry.text_or_port()?.read(|text| address(&text))?;
        return Ok(vec![own.into()]);
    };
    let mut all = Vec::new();
    for value in items {
        let item = FileEntry { file: entry.file, key: entry.key.clone(), span: value.span(), value };
        all.push(match value.get_ref() {
            DeValue::Table(table) => table_of(&item, table)?,
            _ => item.text_or_port()?.read(|text| address(&text))?.into(),
        });
    }
    if all.is_empty() {
        return Err(entry.wrong("can't be empty: it is at least one address"));
    }
    Ok(all)
}

fn table_of(item: &FileEntry<'_, '_>, table: &DeTable<'_>) -> Result<ListenSettings, ConfigError> {
    let entry = |name: &str| {
        let (key, value) = table.get_key_value(name)?;
        Some(FileEntry { file: item.file, key: format!("listen.{name}"), span: key.span(), value })
    };
    for (key, value) in table {
        let named = format!("listen.{}", key.get_ref());
        if !KEYS.contains(&named.as_str()) {
            let hint = hint(&named, &KEYS);
            return Err(FileEntry { file: item.file, key: named, span: key.span(), value }.unknown(hint));
        }
    }
    let own = entry("address").ok_or_else(|| item.wrong("needs an address, each time"))?;
    let mut settings: ListenSettings = own.text_or_port()?.read(|text| address(&text))?.into();
    let is_unix = matches!(settings.address, ListenAddress::Unix(_));
    if let Some(tls) = entry("tls") {
        settings.tls = tls.boolean()?;
        if is_unix && settings.tls {
            return Err(tls.wrong("can't be true: there is no TLS on a Unix socket"));
        }
    }
    if let Some(mode) = entry("mode") {
        if !is_unix {
            return Err(mode.wrong("is for Unix sockets: others have no file"));
        }
        settings.mode = mode.given(mode.text()?).read(|text| permissions(&text))?;
    }
    if let Some(flag) = entry("proxy_protocol") {
        settings.proxy_protocol = flag.boolean()?;
    }
    if let Some(flag) = entry("read_only") {
        settings.read_only = flag.boolean()?;
    }
    Ok(settings)
}

/// Permissions of a file, in octal digits.
fn permissions(text: &str) -> Result<u32, String> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| format!("can't be `{text}`: it is three octal digits, as in \"660\""))
}

/// Reads the proxies that are believed.
pub(super) fn proxies(list: &[String]) -> Result<TrustedProxies, String> {
    let mut own = TrustedProxies::default();
    for text in list {
        if text == OVER_UNIX {
            own.over_unix = true;
        } else {
            own.networks
                .push(text.parse().map_err(|error| format!("can't be so: {error}, and not {OVER_UNIX}"))?);
        }
    }
    Ok(own)
}

/// The proxies that are believed, as they stand in the settings file.
pub(crate) fn proxies_written(own: &TrustedProxies) -> Vec<String> {
    let networks = own.networks.iter().map(ToString::to_string);
    networks.chain(own.over_unix.then(|| OVER_UNIX.to_owned())).collect()
}

/// Reads the header in which they name clients.
pub(super) fn proxy_header(text: &str) -> Result<ProxyHeader, String> {
    match text.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => Ok(ProxyHeader::XForwardedFor),
        "forwarded" => Ok(ProxyHeader::Forwarded),
        _ => Err(format!("can't be `{text}`; {}", hint(text, &PROXY_HEADERS))),
    }
}

/// That header, as it stands in the settings file.
pub(crate) const fn proxy_header_written(header: ProxyHeader) -> &'static str {
    match header {
        ProxyHeader::XForwardedFor => PROXY_HEADERS[0],
        ProxyHeader::Forwarded => PROXY_HEADERS[1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(address(text).map(|own| own.to_string()).as_deref(), Ok(expect), "{text}");
    }

    #[test]
    fn an_address_may_leave_out_what_is_obvious() {
        check("8080", "127.0.0.1:8080");
        check(":8080", "0.0.0.0:8080");
        check("0.0.0.0:8080", "0.0.0.0:8080");
        check("[::1]:8245", "[::1]:8245");
        check("localhost:8245", "localhost:8245");
        check("localhost", "localhost:8245");
        check("::1", "[::1]:8245");
        check("[::1]", "[::1]:8245");
        check("10.0.0.1", "10.0.0.1:8245");
        check("[fe80::1%eth0]:80", "[fe80::1%eth0]:80");
        check("[fe80::1%2]:80", "[fe80::1%2]:80");
        check("fe80::1%eth0", "[fe80::1%eth0]:8245");
        check(" 127.0.0.1:0 ", "127.0.0.1:0");
        check("unix:/run/tailwire.sock", "unix:/run/tailwire.sock");
        check("unix:a b", "unix:a b");
        check("systemd", "systemd:0");
        check("systemd:1", "systemd:1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":",
            "65536",
            ":65536",
            "a:",
            "a:b",
            "http://localhost:1",
            "256.0.0.1:80",
            "::1:x",
            "a b:1",
            "-1:2:3",
            "[fe80::1%]:80",
            "[fe80::1%a b]:80",
            "[127.0.0.1%eth0]:80",
            "unix:",
            "systemd:",
            "systemd:a",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!([permissions("660"), permissions("0600")], [Ok(0o660), Ok(0o600)]);
        for text in ["", "6", "66", "888", "1777", "0o660", "rw-", "+660", "66000"] {
            assert!(permissions(text).is_err(), "{text}");
        }
    }

    #[test]
    fn proxies_are_networks_or_the_unix_socket() {
        let own = proxies(&["10.0.0.0/8".to_owned(), "unix".to_owned(), "::1".to_owned()]).unwrap();
        assert_eq!(proxies_written(&own), ["10.0.0.0/8", "::1/128", "unix"]);
        assert!(proxies(&["everybody".to_owned()]).is_err());
        assert_eq!(proxy_header("Forwarded"), Ok(ProxyHeader::Forwarded));
        assert!(proxy_header("x-real-ip").is_err());
    }
}
