//! Cookies: where they count, and how one is found.

use http::{HeaderMap, header};
use tailwire_http::{OriginClass, RequestHead};

/// A browser sends a cookie with whatever page asks. So it speaks for its user only where a page can do no harm without
/// seeing the answer, and where the page is known.
pub(super) fn is_cookie_heeded(head: &RequestHead<'_>) -> bool {
    let is_known = matches!(head.origin, OriginClass::Own | OriginClass::Allowed);
    is_known || head.method.is_safe() && !head.headers.contains_key(header::UPGRADE)
}

/// The value of a cookie (RFC 6265 §5.4). A browser sends several in one header, and HTTP/2 may have several headers.
pub(super) fn cookie_named<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(own, value)| (own == name && !value.is_empty()).then_some(value))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; xt=no; t=; n"));
        headers.append(header::COOKIE, HeaderValue::from_static("c=d;t=e=f"));
        assert_eq!(cookie_named(&headers, "t"), Some("e=f"));
        assert_eq!(cookie_named(&headers, "x"), None);
    }
}
