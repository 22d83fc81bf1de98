//! The banner on stdout when the broker is up: its address, the durability of an acknowledgement, and first commands to type.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    thread,
};

use tailwire_model::{Durability, Options, Term, limits::RELAXED_FLUSH_MS};

use super::listeners::{BoundListener, ListenPlace};
use crate::machine;

/// The pattern of every topic.
const EVERYTHING: &str = "**";

/// The facts of a running broker that the banner shows.
pub(super) struct BannerFacts<'a> {
    /// Where clients reach it, at least one.
    pub(super) bound: Vec<BoundListener>,
    /// Where operators do.
    pub(super) operations: Option<ListenPlace>,
    /// The certificate for trying, which clients don't trust by themselves.
    pub(super) dev_certificate: Option<&'a Path>,
    /// Whether there is access control.
    pub(super) is_guarded: bool,
}

/// Prints it, on a thread of its own: the broker doesn't wait for a stdout that nobody reads, nor stop because of it.
pub(super) fn show(data: &Path, shown: &BannerFacts<'_>, options: &[(Term, Options)]) {
    let paint = Paint { on: io::stdout().is_terminal() && machine::colour_is_welcome() };
    let data = data.canonicalize().unwrap_or_else(|_| data.to_path_buf());
    let banner = text(&data, shown, &durability(options), paint);
    let print = move || {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(banner.as_bytes());
        let _ = stdout.flush();
    };
    // A machine without threads left has an error of its own already.
    let _ = thread::Builder::new().name("banner".to_owned()).spawn(print);
}

fn text(data: &Path, shown: &BannerFacts<'_>, durability: &str, paint: Paint) -> String {
    let mut lines: Vec<_> = shown.bound.iter().map(|bound| ("address", address(bound, paint))).collect();
    if let Some(place) = &shown.operations {
        lines.push(("metrics", operations(place)));
    }
    lines.extend([("data", data.display().to_string()), ("durability", durability.to_owned())]);
    if shown.is_guarded {
        lines.push(("access", "by the section [access] of the settings".to_owned()));
    } else if shown.bound.iter().any(|bound| bound.place.public().is_some()) {
        let open_to_all = "anyone who reaches this address may read, write and delete";
        lines.push(("access", paint.strong(open_to_all)));
    }
    // The commands are for the first listener that takes a publish.
    let taking = shown.bound.iter().find(|bound| !bound.is_read_only);
    if let Some(bound) = taking.or(shown.bound.first()) {
        let BannerCommands { base, flags } = BannerCommands::of(bound, shown.dev_certificate);
        lines.extend([
            ("", String::new()),
            ("listen", format!("curl -N {flags}'{base}/topics/hello?format=sse'")),
            ("publish", format!("curl {flags}-d 'hi there' {base}/topics/hello")),
        ]);
        if let ListenPlace::Tcp(_) = bound.place {
            lines.push(("browser", paint.strong(&format!("{base}/"))));
        }
    }

    let mut out = format!("\n  {} {}\n\n", paint.strong("Tailwire"), env!("CARGO_PKG_VERSION"));
    for (label, value) in lines {
        let line = format!("  {} {value}", paint.faint(&format!("{label:<11}")));
        let _ = writeln!(out, "{}", if label.is_empty() { "" } else { &line });
    }
    out.push_str("\n  Ctrl+C drains and stops.\n\n");
    out
}

fn address(bound: &BoundListener, paint: Paint) -> String {
    let (url, everywhere) = match &bound.place {
        ListenPlace::Tcp(address) => {
            let everywhere = if address.ip().is_unspecified() { " (every interface)" } else { "" };
            (format!("{}://{address}", scheme(bound)), everywhere)
        }
        ListenPlace::Unix(path) => (format!("unix:{}", path.display()), ""),
    };
    let read_only = if bound.is_read_only { " (read only)" } else { "" };
    format!("{}{everywhere}{read_only}", paint.strong(&url))
}

fn operations(place: &ListenPlace) -> String {
    match place {
        ListenPlace::Tcp(address) => format!("http://{}/metrics", reachable(*address)),
        ListenPlace::Unix(path) => {
            format!("curl --unix-socket '{}' http://localhost/metrics", path.display())
        }
    }
}

const fn scheme(bound: &BoundListener) -> &'static str {
    if bound.is_tls { "https" } else { "http" }
}

/// What commands for a listener begin with.
struct BannerCommands {
    base: String,
    /// What curl needs besides the URL, with a space behind it.
    flags: String,
}

impl BannerCommands {
    fn of(bound: &BoundListener, dev_certificate: Option<&Path>) -> Self {
        let address = match &bound.place {
            ListenPlace::Tcp(address) => address,
            ListenPlace::Unix(path) => {
                let flags = format!("--unix-socket '{}' ", path.display());
                return Self { base: "http://localhost".to_owned(), flags };
            }
        };
        let trust = |cert: &Path| {
            let cert = cert.canonicalize().unwrap_or_else(|_| cert.to_path_buf());
            format!("--cacert '{}' ", cert.display())
        };
        let flags = dev_certificate.filter(|_| bound.is_tls).map(trust).unwrap_or_default();
        Self { base: format!("{}://{}", scheme(bound), reachable(*address)), flags }
    }
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

    fn bound(address: &str, is_tls: bool) -> BoundListener {
        BoundListener { place: ListenPlace::Tcp(address.parse().unwrap()), is_tls, is_read_only: false }
    }

    fn shown(bound: Vec<BoundListener>) -> BannerFacts<'static> {
        BannerFacts { bound, operations: None, dev_certificate: None, is_guarded: false }
    }

    fn plain(shown: &BannerFacts<'_>) -> String {
        text(Path::new("/data"), shown, &durability(&[]), Paint { on: false })
    }

    fn check_lines(banner: &str, lines: &[&str]) {
        for line in lines {
            assert!(banner.contains(line), "{line:?} is not in {banner}");
        }
    }

    #[test]
    fn the_banner_is_plain_without_colour() {
        assert_eq!(
            plain(&shown(vec![bound("127.0.0.1:8245", false)])),
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
    fn every_listener_is_shown_and_commands_are_for_one_that_takes_them() {
        let read_only = BoundListener { is_read_only: true, ..bound("127.0.0.1:1", false) };
        let unix = BoundListener {
            place: ListenPlace::Unix("/run/tw.sock".into()),
            is_tls: false,
            is_read_only: false,
        };
        let operations = Some(ListenPlace::Tcp("0.0.0.0:8246".parse().unwrap()));
        let banner = plain(&BannerFacts { operations, ..shown(vec![read_only, unix]) });
        check_lines(
            &banner,
            &[
                "address     http://127.0.0.1:1 (read only)\n",
                "address     unix:/run/tw.sock\n",
                "metrics     http://127.0.0.1:8246/metrics\n",
                "publish     curl --unix-socket '/run/tw.sock' -d 'hi there' http://localhost/topics/hello\n",
            ],
        );
        assert!(!banner.contains("browser"));
    }

    #[test]
    fn commands_trust_the_certificate_for_trying() {
        let dev_certificate = Some(Path::new("/nowhere/cert.pem"));
        let banner = plain(&BannerFacts { dev_certificate, ..shown(vec![bound("127.0.0.1:8245", true)]) });
        check_lines(
            &banner,
            &[
                "address     https://127.0.0.1:8245\n",
                "curl -N --cacert '/nowhere/cert.pem' 'https://127.0.0.1:8245/topics/hello?format=sse'\n",
                "curl --cacert '/nowhere/cert.pem' -d 'hi there' https://127.0.0.1:8245/topics/hello\n",
                "browser     https://127.0.0.1:8245/\n",
            ],
        );
        assert!(!banner.contains("http:"));
    }

    #[test]
    fn colour_changes_no_word() {
        let shown = shown(vec![bound("127.0.0.1:8245", false)]);
        let coloured = text(Path::new("/data"), &shown, &durability(&[]), Paint { on: true });
        let stripped =
            ["\x1b[1m", "\x1b[2m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(stripped, plain(&shown));
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
        let banner = |address: &str| plain(&shown(vec![bound(address, false)]));
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
        let banner = |address: &str| plain(&shown(vec![bound(address, false)]));
        assert!(banner("0.0.0.0:80").contains("curl -d 'hi there' http://127.0.0.1:80/"));
        assert!(banner("[::]:80").contains("curl -d 'hi there' http://[::1]:80/"));
    }
}
