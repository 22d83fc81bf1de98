//! References to resources in replies. All of them are relative to the request's own URL (RFC 3986 §4.2), so that a path
//! prefix or another host in front does no harm.

/// The way from the resource at `path` to another, which is given without its leading slash.
pub(crate) fn from(path: &str, to: &str) -> String {
    let up = path.bytes().skip(1).filter(|byte| *byte == b'/').count();
    format!("{}{to}", "../".repeat(up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_climb_to_the_root() {
        assert_eq!(from("/topics/a", "messages/x"), "../messages/x");
        assert_eq!(from("/topics/a/b/c", "messages/x"), "../../../messages/x");
        assert_eq!(from("/stream", "messages/x"), "messages/x");
        assert_eq!(from("/", "messages/x"), "messages/x");
    }
}
