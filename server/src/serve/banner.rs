//! The banner on stdout when the broker is up: its address, the durability of an acknowledgement, and first commands to type.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    thread,
};

use tailwire_model::{Durability, Options, Term, limits::RELAXED_FLUSH_MS};

use crate::{machine, tls::ListenerTls};

/// The pattern of every topic.
const EVERYTHING: &str = "**";

/// Prints it, on a thread of its own: the broker doesn't wait for a stdout that nobody reads, nor stop because of it.
pub(super) fn show(
    data: &Path,
    address: SocketAddr,
    is_guarded: bool,
    spoken: &Spoken,
    options: &[(Term, Options)],
) {
    let paint = Paint { on: io::stdout().is_terminal() && machine::colour_is_welcome() };
    let data = data.canonicalize().unwrap_or_else(|_| data.to_path_buf());
    let banner = text(&data, address, is_guarded, spoken, &durability(options), paint);
    let print = move || {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(banner.as_bytes());
        let _ = stdout.flush();
    };
    // A machine without threads left has an error of its own already.
    let _ = thread::Builder::new().name("banner".to_owned()).spawn(print);
}

/// How clients speak to the broker.
pub(super) struct Spoken {
    scheme: &'static str,
    /// The arguments of a command besides the URL, with a space behind them.
    trust: String,
}

impl Spoken {
    const CLEAR: Self = Self { scheme: "http", trust: String::new() };

    /// Clear text, or TLS.
    pub(super) fn by(tls: Option<&ListenerTls>) -> Self {
        tls.map_or(Self::CLEAR, |tls| Self::tls(tls.dev_certificate()))
    }

    fn tls(dev_certificate: Option<&Path>) -> Self {
        let trust = |cert: &Path| {
            let cert = cert.canonicalize().unwrap_or_else(|_| cert.to_path_buf());
            format!("--cacert '{}' ", cert.display())
        };
        Self { scheme: "https", trust: dev_certificate.map(trust).unwrap_or_default() }
    }
}

fn text(
    data: &Path,
    address: SocketAddr,
    is_guarded: bool,
    spoken: &Spoken,
    durability: &str,
    paint: Paint,
) -> String {
    let Spoken { scheme, trust } = spoken;
    let base = format!("{scheme}://{}", reachable(address));
    let everywhere = if address.ip().is_unspecified() { " (every interface)" } else { "" };
    let mut lines = vec![
        ("address", format!("{}{everywhere}", paint.strong(&format!("{scheme}://{address}")))),
        ("data", data.display().to_string()),
        ("durability", durability.to_owned()),
    ];
    if is_guarded {
        lines.push(("access", "by the section [access] of the settings".to_owned()));
    } else if !address.ip().is_loopback() {
        let open_to_all = "anyone who reaches this address may read, write and delete";
        lines.push(("access", paint.strong(open_to_all)));
    }
    lines.extend([
        ("", String::new()),
        ("listen", format!("curl -N {trust}'{base}/topics/hello?format=sse'")),
        ("publish", format!("curl {trust}-d 'hi there' {base}/topics/hello")),
        ("browser", paint.strong(&format!("{base}/"))),
    ]);

    let mut out = format!("\n  {} {}\n\n", paint.strong("Tailwire"), env!("CARGO_PKG_VERSION"));
    for (label, value) in lines {
        let line = format!("  {} {value}", paint.faint(&format!("{label:<11}")));
        let _ = writeln!(out, "{}", if label.is_empty() { "" } else { &line });
    }
    out.push_str("\n  Ctrl+C drains and stops.\n\n");
    out
}

/// The durability of an acknowledgement, where no topic or pattern has its own.
fn durability(options: &[(Term, Options)]) -> String {
    let everywhere = options.iter().find(|(term, _)| term.as_str() == EVERYTHING);
    let common = everywhere.and_then(|(_, options)| options.durability).unwrap_or_default();
    let promise = match common {
        Durability::Sync => "every acknowledged message is on disk".to_owned(),
        Durability::Relaxed => format!("acknowledged messages are on disk within {RELAXED_FLUSH_MS} ms"),
        Durability::Memory => "messages are kept in memory alone".to_owned(),
    };
    let differs = |own: &Options| own.durability.is_some_and(|own| own != common);
    match options.iter().filter(|(_, own)| differs(own)).count() {
        0 => promise,
        1 => format!("{promise}; 1 topic or pattern differs (/options)"),
        count => format!("{promise}; {count} topics or patterns differ (/options)"),
    }
}

/// The address to give to a client on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Colour, where it is wanted. The banner reads the same without.
#[derive(Clone, Copy)]
struct Paint {
    on: bool,
}

impl Paint {
    fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_is_plain_without_colour() {
        let address = "127.0.0.1:8245".parse().unwrap();
        let plain =
            text(Path::new("/data"), address, false, &Spoken::CLEAR, &durability(&[]), Paint { on: false });
        assert_eq!(
            plain,
            "
  Tailwire 0.1.0

  address     http://127.0.0.1:8245
  data        /data
  durability  every acknowledged message is on disk

  listen      curl -N 'http://127.0.0.1:8245/topics/hello?format=sse'
  publish     curl -d 'hi there' http://127.0.0.1:8245/topics/hello
  browser     http://127.0.0.1:8245/

  Ctrl+C drains and stops.

"
            .replace("0.1.0", env!("CARGO_PKG_VERSION"))
        );
    }

    #[test]
    fn commands_trust_the_certificate_for_trying() {
        let address = "127.0.0.1:8245".parse().unwrap();
        let spoken = Spoken::tls(Some(Path::new("/nowhere/cert.pem")));
        let banner = text(Path::new("/data"), address, false, &spoken, "", Paint { on: false });
        for line in [
            "address     https://127.0.0.1:8245\n",
            "curl -N --cacert '/nowhere/cert.pem' 'https://127.0.0.1:8245/topics/hello?format=sse'\n",
            "curl --cacert '/nowhere/cert.pem' -d 'hi there' https://127.0.0.1:8245/topics/hello\n",
            "browser     https://127.0.0.1:8245/\n",
        ] {
            assert!(banner.contains(line), "{banner}");
        }
        assert!(!banner.contains("http:"));
    }

    #[test]
    fn colour_changes_no_word() {
        let address = "127.0.0.1:8245".parse().unwrap();
        let plain =
            text(Path::new("/data"), address, false, &Spoken::CLEAR, &durability(&[]), Paint { on: false });
        let coloured =
            text(Path::new("/data"), address, false, &Spoken::CLEAR, &durability(&[]), Paint { on: true });
        let stripped =
            ["\x1b[1m", "\x1b[2m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(stripped, plain);
    }

    #[test]
    fn durability_is_promised_as_it_is_set() {
        let check = |set: &[(&str, Durability)], expect: &str| {
            let options: Vec<_> = set
                .iter()
                .map(|&(term, durability)| {
                    let options = Options { durability: Some(durability), ..Options::default() };
                    (Term::parse(term).unwrap(), options)
                })
                .collect();
            assert_eq!(durability(&options), expect);
        };
        let all = "every acknowledged message is on disk";
        check(&[], all);
        check(&[("**", Durability::Sync), ("a", Durability::Sync)], all);
        check(&[("a", Durability::Memory)], &format!("{all}; 1 topic or pattern differs (/options)"));
        check(&[("**", Durability::Relaxed)], "acknowledged messages are on disk within 100 ms");
        check(
            &[("**", Durability::Memory), ("a", Durability::Sync), ("b/*", Durability::Relaxed)],
            "messages are kept in memory alone; 2 topics or patterns differ (/options)",
        );
    }

    #[test]
    fn an_address_that_others_reach_says_that_they_may_do_everything() {
        let banner = |address: &str| {
            text(Path::new("/data"), address.parse().unwrap(), false, &Spoken::CLEAR, "", Paint { on: false })
        };
        let warning = "access      anyone who reaches this address may read, write and delete";
        for address in ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "[2001:db8::1]:80"] {
            assert!(banner(address).contains(warning), "{address}");
        }
        for address in ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80"] {
            assert!(!banner(address).contains("anyone"), "{address}");
        }
        assert!(banner("0.0.0.0:80").contains("http://0.0.0.0:80 (every interface)"));
    }

    #[test]
    fn commands_never_name_every_interface() {
        let banner = text(
            Path::new("/data"),
            "0.0.0.0:80".parse().unwrap(),
            false,
            &Spoken::CLEAR,
            "",
            Paint { on: false },
        );
        assert!(banner.contains("curl -d 'hi there' http://127.0.0.1:80/"));
        let banner = text(
            Path::new("/data"),
            "[::]:80".parse().unwrap(),
            false,
            &Spoken::CLEAR,
            "",
            Paint { on: false },
        );
        assert!(banner.contains("curl -d 'hi there' http://[::1]:80/"));
    }
}
