//! Names in the configuration.

/// A header's name in lower case, if it is one.
pub(crate) fn header_name(name: &str) -> Result<Box<str>, &'static str> {
    if is_token(name) { Ok(name.to_ascii_lowercase().into()) } else { Err("it is no name of a header") }
}

/// Whether a text is a token of HTTP (RFC 9110 §5.6.2), as names of headers and cookies are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
