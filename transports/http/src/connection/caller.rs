//! Who sends a request: the other end of its connection, and the client behind that, which is another where proxies stand
//! between. Logs, limits and decisions go by [`Caller::address`]. Pure.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use tailwire_model::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Proxies in a row that are looked at. No site has as many, and a client may write as many as it likes.
const HOPS_MAX: usize = 16;

/// Who sends a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller {
    /// The other end of the connection, which may be a proxy: what it passes on, it answers for. `None` for a Unix socket.
    pub peer: Option<IpAddr>,
    /// The client, as far as proxies that are believed name it: what limits count by. `None` where nobody says.
    pub address: Option<IpAddr>,
    /// Whether the client is known to use TLS, here or at a proxy that is believed.
    pub is_secure: bool,
}

/// The proxies whose word on their clients counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Their addresses.
    pub networks: Vec<Network>,
    /// Whether each peer of the Unix socket is one.
    pub over_unix: bool,
    /// Where they say it. Another header may be the client's own, which a proxy that doesn't know it passes on.
    pub header: ProxyHeader,
}

/// The header in which proxies name the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, and `X-Forwarded-Proto` for the scheme.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What one proxy says of the other end of its connection.
#[derive(Default)]
struct ProxyHop {
    address: Option<IpAddr>,
    is_secure: Option<bool>,
}

impl TrustedProxies {
    /// Whether a peer's word counts.
    pub(crate) fn trust(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => self.networks.iter().any(|network| network.contains(address)),
            None => self.over_unix,
        }
    }

    /// Who sends a request with these headers, over a connection from this peer: each proxy that is believed names the one
    /// before it, from the nearest on, up to one that is not believed, which is the client.
    pub(crate) fn caller(&self, peer: Option<IpAddr>, is_secure: bool, headers: &HeaderMap) -> Caller {
        let mut caller = Caller { peer, address: peer, is_secure };
        if !self.trust(peer) {
            return caller;
        }
        let hops = match self.header {
            ProxyHeader::XForwardedFor => x_forwarded(headers),
            ProxyHeader::Forwarded => forwarded(headers),
        };
        for hop in hops {
            // A proxy that takes TLS off says so; one behind it, which got clear text, mostly has nothing to say.
            caller.is_secure = hop.is_secure.unwrap_or(caller.is_secure);
            let Some(address) = hop.address else { break };
            caller.address = Some(address.to_canonical());
            if !self.trust(caller.address) {
                break;
            }
        }
        caller
    }
}

/// Hops from the nearest on.
fn x_forwarded(headers: &HeaderMap) -> Vec<ProxyHop> {
    let addresses = items(headers, X_FORWARDED_FOR).map(node);
    let mut hops: Vec<_> = addresses.map(|address| ProxyHop { address, is_secure: None }).collect();
    // As the nearest has it: mostly there is one, of the proxy that took TLS off.
    let scheme = items(headers, X_FORWARDED_PROTO).next().map(is_https);
    match hops.first_mut() {
        Some(nearest) => nearest.is_secure = scheme,
        None => hops.push(ProxyHop { address: None, is_secure: scheme }),
    }
    hops
}

fn forwarded(headers: &HeaderMap) -> Vec<ProxyHop> {
    items(headers, header::FORWARDED).map(element).collect()
}

/// One element of `Forwarded` (RFC 7239 §4).
fn element(text: &str) -> ProxyHop {
    let mut hop = ProxyHop::default();
    for pair in split(text.as_bytes(), b';') {
        let Some((name, value)) = str::from_utf8(pair).ok().and_then(|pair| pair.split_once('=')) else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.address = node(value),
            "proto" => hop.is_secure = Some(is_https(value)),
            _ => {}
        }
    }
    hop
}

fn is_https(scheme: &str) -> bool {
    ["https", "wss"].iter().any(|secure| scheme.trim().eq_ignore_ascii_case(secure))
}

/// The items of a list, from the last on; each proxy adds its own behind those that there are, on the same line, too, so that
/// bytes of a client that are no text must not hide it. Such an item says nothing.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).iter().rev();
    let items = lines.flat_map(|line| split(line.as_bytes(), b',')).take(HOPS_MAX);
    items.map(|item| str::from_utf8(item).unwrap_or_default())
}

/// The parts between separators outside of quotes, from the last on: a quote that a client opens and leaves open must not
/// swallow what a proxy has added.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    let parts = text.rsplit(move |&byte| {
        is_quoted ^= byte == b'"';
        byte == separator && !is_quoted
    });
    parts.map(<[u8]>::trim_ascii)
}

/// An address, perhaps with a port or in brackets. `None` for `unknown`, for a name that hides one, and for what is none.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderValue;

    use super::*;

    fn proxies(header: ProxyHeader) -> TrustedProxies {
        let networks = ["10.0.0.0/8", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect();
        TrustedProxies { networks, over_unix: false, header }
    }

    /// Asks with header lines, over clear text, and gives the client's address and whether it is secure.
    fn ask(header: ProxyHeader, peer: &str, lines: &[(&'static str, &str)]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let caller = proxies(header).caller(Some(peer.parse().unwrap()), false, &headers);
        assert_eq!(caller.peer, Some(peer.parse().unwrap()));
        (caller.address.unwrap().to_string(), caller.is_secure)
    }

    #[test]
    fn a_proxy_that_is_believed_names_its_client() {
        let check = |value: &str, expect: &str| {
            let told = ask(ProxyHeader::XForwardedFor, "10.0.0.1", &[("x-forwarded-for", value)]);
            assert_eq!(told, (expect.to_owned(), false), "{value}");
        };
        check("203.0.113.7", "203.0.113.7");
        check("203.0.113.7:4711", "203.0.113.7");
        check("[2001:db8::1]:4711", "2001:db8::1");
        check("2001:db8::1", "2001:db8::1");
        check("::ffff:203.0.113.7", "203.0.113.7");
        check("203.0.113.7, 10.1.1.1", "203.0.113.7");
        check("203.0.113.7, fd00::9 ,10.1.1.1", "203.0.113.7");
        // All of them are ours: the farthest is as near to the client as anybody knows.
        check("10.2.2.2, 10.1.1.1", "10.2.2.2");
    }

    #[test]
    fn what_a_client_writes_itself_counts_for_nothing() {
        let x =
            |peer: &str, value: &str| ask(ProxyHeader::XForwardedFor, peer, &[("x-forwarded-for", value)]).0;
        // Not a proxy.
        assert_eq!(x("203.0.113.7", "127.0.0.1"), "203.0.113.7");
        assert_eq!(x("11.0.0.1", "10.0.0.1"), "11.0.0.1");
        // In front of what the proxy adds.
        assert_eq!(x("10.0.0.1", "127.0.0.1, 203.0.113.7"), "203.0.113.7");
        assert_eq!(x("10.0.0.1", "127.0.0.1, 10.9.9.9, 203.0.113.7"), "203.0.113.7");
        // Garbage ends the walk at the last proxy that is known.
        for garbage in ["unknown", "_hidden", "", "203.0.113.7;x", "203.0.113", "::1%eth0", "1.2.3.4, "] {
            assert_eq!(x("10.0.0.1", garbage), "10.0.0.1", "{garbage}");
        }
        assert_eq!(x("10.0.0.1", "127.0.0.1, unknown, 10.3.3.3"), "10.3.3.3");
        let many = vec!["10.5.5.5"; 200].join(",");
        assert_eq!(x("10.0.0.1", &format!("127.0.0.1,{many}")), "10.5.5.5");
        // A client's bytes that are no text don't hide what the proxy adds to the same line.
        for wrong in ["\u{e9}", "127.0.0.1\u{68b}", "\"\u{e9}"] {
            assert_eq!(x("10.0.0.1", &format!("{wrong}, 203.0.113.7")), "203.0.113.7", "{wrong}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(ask(ProxyHeader::XForwardedFor, "10.0.0.1", &lines).0, "203.0.113.7");
        let lines = [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "203.0.113.7, 10.1.1.1")];
        assert_eq!(ask(ProxyHeader::XForwardedFor, "10.0.0.1", &lines).0, "203.0.113.7");
        // What is no address hides whatever stands before it.
        let lines = [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "1.2.3.4\u{e9}")];
        assert_eq!(ask(ProxyHeader::XForwardedFor, "10.0.0.1", &lines).0, "10.0.0.1");
    }

    #[test]
    fn only_the_header_that_is_configured_counts() {
        let lines = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=127.0.0.1;proto=https")];
        let told = ask(ProxyHeader::XForwardedFor, "10.0.0.1", &lines);
        assert_eq!(told, ("203.0.113.7".to_owned(), false));
        let lines = [
            ("forwarded", "for=203.0.113.7"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(ask(ProxyHeader::Forwarded, "10.0.0.1", &lines), ("203.0.113.7".to_owned(), false));
    }

    #[test]
    fn forwarded_is_read_as_it_is_written() {
        let check = |value: &str, expect: (&str, bool)| {
            let told = ask(ProxyHeader::Forwarded, "10.0.0.1", &[("forwarded", value)]);
            assert_eq!(told, (expect.0.to_owned(), expect.1), "{value}");
        };
        check("for=192.0.2.43", ("192.0.2.43", false));
        check("For=\"[2001:db8:cafe::17]:4711\";proto=https", ("2001:db8:cafe::17", true));
        check("by=203.0.113.43;proto=HTTPS;for=192.0.2.60", ("192.0.2.60", true));
        check("for=127.0.0.1, for=192.0.2.43;proto=https", ("192.0.2.43", true));
        check("for=192.0.2.43;proto=https, for=10.1.1.1;proto=http", ("192.0.2.43", true));
        check("for=192.0.2.43;by=\"a,b;for=127.0.0.1\"", ("192.0.2.43", false));
        check("for=\", for=192.0.2.43", ("192.0.2.43", false));
        check("for=127.0.0.1;by=\"x, for=192.0.2.43;proto=https", ("192.0.2.43", true));
        for hidden in ["for=unknown", "for=_secret", "for=\"", "for", "=", ";;,"] {
            check(hidden, ("10.0.0.1", false));
        }
    }

    #[test]
    fn a_scheme_is_the_word_of_a_proxy_too() {
        let check = |peer: &str, lines: &[(&'static str, &str)], expect: bool| {
            assert_eq!(ask(ProxyHeader::XForwardedFor, peer, lines).1, expect, "{peer} {lines:?}");
        };
        check("10.0.0.1", &[("x-forwarded-proto", "https")], true);
        check("10.0.0.1", &[("x-forwarded-proto", "https"), ("x-forwarded-for", "203.0.113.7")], true);
        check("10.0.0.1", &[("x-forwarded-proto", "https, http")], false);
        check("10.0.0.1", &[("x-forwarded-proto", "http")], false);
        check("203.0.113.7", &[("x-forwarded-proto", "https")], false);
    }

    #[test]
    fn a_unix_socket_is_believed_where_that_is_said() {
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.7"));
        let mut own = proxies(ProxyHeader::XForwardedFor);
        assert_eq!(own.caller(None, false, &headers).address, None);
        own.over_unix = true;
        assert_eq!(own.caller(None, false, &headers).address, Some("203.0.113.7".parse().unwrap()));
    }
}
