//! The JavaScript client at `/client.js`, `/client.mjs` and `/client-tabs.mjs`, so that a page needs nothing but the
//! broker. The files are those of `clients/js/dist/served`, built into the binary; here they are bytes, and nothing of
//! what they do is known.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};

use super::reply::{empty, reply};

/// A file, as it is and compressed.
pub(crate) struct File {
    plain: &'static [u8],
    gzip: &'static [u8],
}

macro_rules! file {
    ($name:literal) => {
        File {
            plain: include_bytes!(concat!("../../../../clients/js/dist/served/", $name)),
            gzip: include_bytes!(concat!("../../../../clients/js/dist/served/", $name, ".gz")),
        }
    };
}

/// For a plain script tag.
pub(crate) static SCRIPT: File = file!("client.js");
/// For `import`.
pub(crate) static MODULE: File = file!("client.mjs");
/// The script that shares a connection among tabs.
pub(crate) static TABS: File = file!("client-tabs.mjs");

/// Another broker has other files under the same URL, so a browser asks each time whether its own is still good.
const CACHING: HeaderValue = HeaderValue::from_static("no-cache");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

impl File {
    /// The answer to a `GET`. It is public: every client of the broker may load it, also into pages of other origins.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Response<Body> {
        // Weak, as it stands for both encodings (RFC 9110 §8.8.3.3).
        let tag = format!("W/\"{:016x}\"", fingerprint(self.plain));
        let mut response = if is_known(request, &tag) {
            empty(StatusCode::NOT_MODIFIED)
        } else {
            let javascript = HeaderValue::from_static("text/javascript; charset=utf-8");
            let gzip = takes_gzip(request);
            let mut response = reply(StatusCode::OK, javascript, if gzip { self.gzip } else { self.plain });
            if gzip {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        };
        let headers = response.headers_mut();
        headers.extend(HeaderValue::from_str(&tag).map(|tag| (header::ETAG, tag)));
        headers.insert(header::CACHE_CONTROL, CACHING);
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
        response
    }
}

/// FNV-1a: tells one build from another, and is no proof against forgery, which nobody gains anything by.
const fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}

/// Whether `If-None-Match` names it, by weak comparison (RFC 9110 §13.1.2).
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    elements(request, &header::IF_NONE_MATCH)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag.trim_start_matches("W/"))
}

/// Whether `Accept-Encoding` has gzip, and not with the quality 0 (RFC 9110 §12.5.3).
fn takes_gzip(request: &HeaderMap) -> bool {
    let mut taken = false;
    for element in elements(request, &header::ACCEPT_ENCODING) {
        let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
        let quality = parameters.trim().trim_start_matches(['q', 'Q']).trim_start_matches('=');
        let wanted = quality.parse().unwrap_or(1.0) > 0.0_f32;
        if coding.trim().eq_ignore_ascii_case("gzip") {
            return wanted;
        }
        taken |= coding.trim() == "*" && wanted;
    }
    taken
}

/// The elements of a header that is a list by commas.
fn elements<'a>(request: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = request.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_is_given_to_those_who_take_it() {
        for taken in ["gzip", "br, GZIP", "gzip;q=0.1", "deflate , gzip ; q=1", "*", "*;q=0.5, br"] {
            assert!(takes_gzip(&with(header::ACCEPT_ENCODING, taken)), "{taken}");
        }
        for refused in ["", "br", "identity", "gzip;q=0", "gzip;q=0.0", "*;q=0", "*, gzip;q=0", "gzip;q=0, *"]
        {
            assert!(!takes_gzip(&with(header::ACCEPT_ENCODING, refused)), "{refused}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_known_file_is_not_sent_again() {
        let tag = MODULE.answer(&HeaderMap::new()).headers()[header::ETAG].to_str().unwrap().to_owned();
        for (names, known) in [
            (tag.clone(), true),
            (tag.trim_start_matches("W/").to_owned(), true),
            (format!("\"x\", {tag}"), true),
            ("*".to_owned(), true),
            ("\"x\"".to_owned(), false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(header::IF_NONE_MATCH, names.parse().unwrap());
            let status = MODULE.answer(&request).status();
            assert_eq!(status == StatusCode::NOT_MODIFIED, known, "{names}");
        }
    }

    #[test]
    fn files_have_tags_of_their_own() {
        let tags = [&SCRIPT, &MODULE, &TABS].map(|file| fingerprint(file.plain));
        assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2]);
    }
}
