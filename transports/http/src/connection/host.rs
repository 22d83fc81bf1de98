//! The host that a request names: `Host` of HTTP/1.1, `:authority` of HTTP/2 (RFC 9110 §7.2, RFC 3986 §3.2). Pure.

use std::net::{IpAddr, Ipv6Addr};

/// A host by its grammar: no user in front, nothing behind the brackets, and a port that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// A name or an address, without the brackets of IPv6; it may be empty.
    name: &'a str,
    pub(crate) port: Option<u16>,
}

/// Parses a host with its port; `None` where that is malformed.
pub(crate) fn parse(text: &str) -> Option<Host<'_>> {
    let (name, rest) = match text.strip_prefix('[') {
        Some(literal) => {
            let (address, rest) = literal.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, rest)
        }
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            is_name(name).then_some((name, rest))?
        }
    };
    let port = match rest.strip_prefix(':') {
        // A port may be empty (RFC 3986 §3.2.3).
        Some("") => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
        None if rest.is_empty() => None,
        _ => return None,
    };
    Some(Host { name, port })
}

impl Host<'_> {
    /// Whether it is this machine by its name: a browser that was led here by another name says that one.
    pub(crate) fn is_loopback(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether both are the same to a server that is reached by them: names compare without case.
    pub(crate) fn is_same(&self, other: &Host<'_>) -> bool {
        self.name.eq_ignore_ascii_case(other.name) && self.port == other.port
    }
}

/// A registered name: unreserved characters, sub-delimiters, and escapes.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'%' => {
                let mut is_digit = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
                is_digit() && is_digit()
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
        };
        if !fits {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_maybe_a_port() {
        let loopback = [
            "localhost",
            "LOCALHOST",
            "localhost:8245",
            "localhost:",
            "app.localhost:1",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]",
            "[::1]:8245",
            "[0:0:0:0:0:0:0:1]",
        ];
        for text in loopback {
            assert!(parse(text).is_some_and(|host| host.is_loopback()), "{text}");
        }
        for text in ["", "evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "a_b:65535", "%41"] {
            assert!(parse(text).is_some_and(|host| !host.is_loopback()), "{text}");
        }
        let wrong = [
            "[::1]evil",
            "[::1",
            "::1",
            "[evil]",
            "[127.0.0.1]",
            "localhost:x",
            "localhost:65536",
            "localhost:1:2",
            "localhost:-1",
            "localhost:+1",
            "evil@localhost",
            "evil:x@localhost",
            "local host",
            "localhost/",
            "localhost?",
            "localhost#",
            "é",
            "%4",
            "%zz",
            "a\\b",
            "[::1]:x",
            "[::1] ",
            "http://localhost",
        ];
        for text in wrong {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_compare_without_case_and_ports_as_numbers() {
        let same = |one, other| parse(one).zip(parse(other)).is_some_and(|(one, other)| one.is_same(&other));
        assert!(same("A.example:080", "a.EXAMPLE:80") && same("a", "a:"));
        assert!(!same("a", "b") && !same("a:1", "a") && !same("a:1", "a:2"));
    }
}
