//! One reader for each kind of value, whatever its source. A refusal completes the sentence that begins with the source.

use std::path::PathBuf;

use tailwire_model::limits::MESSAGE_BYTES_MAX;

use super::source::hint;

/// More threads than any machine has cores is a slip of the keyboard.
const THREADS_MAX: i64 = 1024;
/// ACME directories that have a name.
pub(crate) const LETSENCRYPT: &str = "letsencrypt";
pub(crate) const LETSENCRYPT_STAGING: &str = "letsencrypt-staging";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn folder(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str().is_empty() { Err("can't be empty: it is a folder".to_owned()) } else { Ok(path) }
}

pub(super) fn file(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str().is_empty() { Err("can't be empty: it is a file".to_owned()) } else { Ok(path) }
}

/// A name that an authority can verify by connecting to it: no address, no wildcard.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_digits = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_digits || name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!("can't name `{text}`: it is the name of a host, as in rt.example.com"));
    }
    Ok(name)
}

/// An address to write to; one of mail may leave its scheme out.
pub(super) fn contact(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() => Ok(text.to_owned()),
        None if text.contains('@') => Ok(format!("mailto:{text}")),
        _ => Err(format!("can't name `{text}`: it is an address of mail")),
    }
}

/// An ACME directory: one that is known by its name, or a URL.
pub(super) fn acme_directory(text: &str) -> Result<String, String> {
    if [LETSENCRYPT, LETSENCRYPT_STAGING].contains(&text) || text.starts_with("https://") {
        return Ok(text.to_owned());
    }
    Err(format!(
        "can't be `{text}`: it is {LETSENCRYPT}, {LETSENCRYPT_STAGING}, or a URL that begins with https://"
    ))
}

/// Directives of the log. Checked here, as the subscriber takes a mistyped level for the name of a part.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    let directives = split_list(text);
    if directives.is_empty() {
        return Err(format!("can't be empty: it is one of {}", LEVELS.join(", ")));
    }
    for directive in &directives {
        let (target, level) = directive.split_once('=').unwrap_or(("", directive));
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            return Err(format!("can't be `{level}`; {}", hint(level, &LEVELS)));
        }
        let is_target =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':' || byte == b'-';
        if !target.bytes().all(is_target) || directive.starts_with('=') {
            return Err(format!(
                "can't be `{directive}`: a part and its level are written as in tailwire_http=debug"
            ));
        }
    }
    Ok(directives.join(","))
}

/// Format of the log on stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line, for programs.
    Json,
}

const FORMATS: [&str; 2] = ["text", "json"];

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("can't be `{text}`; {}", hint(text, &FORMATS))),
    }
}

/// An origin as browsers send it (RFC 6454 §6.2): scheme, host and, unless it is the scheme's own, port.
pub(super) fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let wrong = |why: &str| format!("can't be `{text}`: {why}, as in https://app.example");
    let (scheme, host) = text.split_once("://").ok_or_else(|| wrong("an origin begins with a scheme"))?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_scheme) {
        return Err(wrong("an origin begins with a scheme"));
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(is_host) {
        return Err(wrong("an origin is a scheme, a host and perhaps a port"));
    }
    let origin = text.to_ascii_lowercase();
    // Browsers leave the scheme's own port out; one that is written here would never match.
    let own_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    Ok(origin.strip_suffix(own_port).unwrap_or(&origin).to_owned())
}

/// A URL by which clients reach the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicUrl {
    /// Without a slash at its end.
    pub(crate) url: String,
    /// Its origin, as browsers send it.
    pub(crate) origin: String,
}

impl PublicUrl {
    /// Its path, empty where it has none.
    pub(crate) fn path(&self) -> &str {
        self.url.strip_prefix(&self.origin).unwrap_or_default()
    }
}

pub(super) fn public_url(text: &str) -> Result<PublicUrl, String> {
    let wrong = || format!("can't be `{text}`: it is an http or https URL, as in https://rt.example.com");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let is_http = ["http", "https"].iter().any(|own| scheme.eq_ignore_ascii_case(own));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !is_http || path.contains(['?', '#']) {
        return Err(wrong());
    }
    let origin = origin(&format!("{scheme}://{host}")).map_err(|_| wrong())?;
    let url = format!("{origin}{}", path.trim_end_matches('/'));
    Ok(PublicUrl { url, origin })
}

/// A hub's URL, which may have a query of its own.
pub(super) fn hub(text: &str) -> Result<String, String> {
    let wrong = || format!("can't be `{text}`: it is an http or https URL, as in https://hub.example.com/");
    let is_legal = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '#');
    let (url, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    public_url(url).map_err(|_| wrong())?;
    if url.chars().chain(query.chars()).all(is_legal) { Ok(text.to_owned()) } else { Err(wrong()) }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("can't be `{text}`: it is true or false")),
    }
}

pub(super) fn threads(count: i64) -> Result<usize, String> {
    usize::try_from(count)
        .ok()
        .filter(|_| count <= THREADS_MAX)
        .ok_or_else(|| format!("can't be {count}: it is 0 (automatic) to {THREADS_MAX}"))
}

/// A number of bytes, in digits alone: a unit would leave open whether it counts by 1000 or by 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| format!("can't be `{text}`: it is a number of bytes, from 1 on"))
}

/// Numbers of topics are 32 bits.
pub(super) fn count_of_topics(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|&number| (1..=u64::from(u32::MAX)).contains(&number));
    number.ok_or_else(|| format!("can't be `{text}`: it is a number of topics, from 1 to {}", u32::MAX))
}

/// A time in milliseconds, at least a second; none is never.
pub(super) fn time_or_never(text: &str) -> Result<Option<u64>, String> {
    if text == "never" {
        return Ok(None);
    }
    let digits = text.trim_end_matches(|byte: char| byte.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|&number| number > 0);
    let time = number.zip(unit_ms).and_then(|(number, unit_ms)| number.checked_mul(unit_ms));
    time.map(Some)
        .ok_or_else(|| format!("can't be `{text}`: it is a time, as in 90s, 30m, 12h or 1d, or never"))
}

/// What [`time_or_never`] reads as this.
pub(crate) fn time_text(ms: Option<u64>) -> String {
    let Some(ms) = ms else { return "never".to_owned() };
    let units = [(86_400_000, 'd'), (3_600_000, 'h'), (60_000, 'm')];
    let (unit_ms, unit) =
        units.into_iter().find(|(unit_ms, _)| ms.is_multiple_of(*unit_ms)).unwrap_or((1_000, 's'));
    format!("{}{unit}", ms / unit_ms)
}

/// Fewer bytes would not hold the largest message.
pub(super) fn receive_bytes(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(bytes(text)?).unwrap_or(usize::MAX);
    if bytes >= MESSAGE_BYTES_MAX {
        return Ok(bytes);
    }
    Err(format!("can't be {bytes}: it is a number of bytes, from {MESSAGE_BYTES_MAX} on"))
}

/// The parts between commas, without the empty ones.
pub(super) fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_numbers_that_make_sense() {
        assert_eq!(count_of_topics("1000000"), Ok(1_000_000));
        assert_eq!(receive_bytes("1048576"), Ok(1 << 20));
        for text in ["", "0", "-1", "1e6", "4294967296", "many"] {
            assert!(count_of_topics(text).is_err(), "{text}");
        }
        for text in ["", "0", "1048575", "64M"] {
            assert!(receive_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_has_a_unit() {
        for (text, ms) in
            [("1s", 1_000), ("90s", 90_000), ("30m", 1_800_000), ("12h", 43_200_000), ("7d", 604_800_000)]
        {
            assert_eq!((time_or_never(text), time_text(Some(ms)).as_str()), (Ok(Some(ms)), text));
        }
        assert_eq!((time_or_never("never"), time_text(None).as_str()), (Ok(None), "never"));
        for text in ["", "0s", "1", "s", "1.5h", "-1d", "1w", "1 d", "99999999999999999d", "Never", "1ä"] {
            assert!(time_or_never(text).is_err(), "{text}");
        }
    }

    #[test]
    fn log_levels_are_levels() {
        assert_eq!(log_level("info").as_deref(), Ok("info"));
        assert_eq!(log_level("WARN, tailwire_http=debug").as_deref(), Ok("WARN,tailwire_http=debug"));
        assert_eq!(log_level("inof").unwrap_err(), "can't be `inof`; did you mean info?");
        for text in ["", ",", "=info", "a b=info", "tailwire_http=loud"] {
            assert!(log_level(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_hub_is_a_url_of_the_web() {
        assert_eq!(hub("https://hub.example/a?b=c").as_deref(), Ok("https://hub.example/a?b=c"));
        for text in [
            "hub.example",
            "ftp://hub.example/",
            "https://",
            "https://hub.example/#a",
            "https://hub.example/ a",
        ] {
            assert!(hub(text).is_err(), "{text}");
        }
    }

    #[test]
    fn public_urls_have_an_origin() {
        let check = |text: &str, url: &str, origin: &str| {
            let expect = PublicUrl { url: url.to_owned(), origin: origin.to_owned() };
            assert_eq!(public_url(text), Ok(expect));
        };
        check("https://RT.example.com/", "https://rt.example.com", "https://rt.example.com");
        check("https://a.example:443/rt/", "https://a.example/rt", "https://a.example");
        check("http://[::1]:8245", "http://[::1]:8245", "http://[::1]:8245");
        for text in
            ["", "a.example", "ftp://a", "https://", "https://a?b", "https://u@a", "https://a/#b", "*"]
        {
            assert!(public_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        for (text, expect) in [
            ("https://App.Example", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:8080", "http://app.example:8080"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("tauri://localhost", "tauri://localhost"),
            ("*", "*"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(expect));
        }
        for text in ["", "app.example", "https://", "https://app.example/", "https://a@b", "://a", "null"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
