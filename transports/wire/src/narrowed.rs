//! What a pattern was narrowed to: the part of it that its reader is permitted. Topics that are named are never in question.

use tailwire_model::Filter;

use crate::{json, path};

/// What the header takes at most, before the number of those that are left out.
const HEADER_BYTES_MAX: usize = 1000;

/// Appends the member of an object: `,"narrowed":["users/alice/**"]`.
pub fn member(permitted: &Filter, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"narrowed\":[");
    for (index, term) in permitted.terms().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::string(term.as_str(), out);
    }
    out.push(b']');
}

/// The value of `Tailwire-Narrowed`, as the query of `/stream` has it: `topic=users/alice/**&topic=public/**`. Where there are more
/// than there is room for, in bytes: `&more=12`, their number.
pub fn header(permitted: &Filter, room: usize) -> String {
    let (terms, room) = (permitted.terms(), room.min(HEADER_BYTES_MAX));
    let mut value = String::new();
    for (index, term) in terms.iter().enumerate() {
        let before = value.len();
        if index > 0 {
            value.push('&');
        }
        value.push_str("topic=");
        path::encode(term.as_str(), &mut value);
        if value.len() > room {
            value.truncate(before);
            let separator = if index > 0 { "&" } else { "" };
            return format!("{value}{separator}more={}", terms.len() - index);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tailwire_model::Term;

    use super::*;
    use crate::query;

    fn filter(names: &[String]) -> Filter {
        let terms: Vec<Term> = names.iter().map(|name| Term::parse(name).unwrap()).collect();
        Filter::union(&terms)
    }

    #[test]
    fn a_header_is_a_query_that_names_the_same() {
        let names: Vec<String> = ["a&b=c/**", "r+ž %", "users/alice/*"].map(str::to_owned).into();
        let value = header(&filter(&names), usize::MAX);
        assert!(value.is_ascii());
        let topics: Vec<_> = query::pairs(Some(&value)).map(|(_, raw)| query::decode(raw).unwrap()).collect();
        assert_eq!(topics, ["r+ž %", "a&b=c/**", "users/alice/*"], "topics before patterns");
    }

    #[test]
    fn a_long_one_says_how_many_are_left_out() {
        let names: Vec<String> = (100..400).map(|number| format!("topic/{number}")).collect();
        let value = header(&filter(&names), usize::MAX);
        assert_eq!(header(&filter(&names), 0), "more=300");
        assert!(value.len() <= HEADER_BYTES_MAX + 16, "{}", value.len());
        let told = value.matches("topic=").count();
        assert!(value.ends_with(&format!("&more={}", 300 - told)), "{value}");
        let one = format!("a/{}", "ž".repeat(120));
        assert_eq!(header(&filter(&[one.clone(), format!("b{one}")]), 1000).matches("more=1").count(), 1);
    }

    #[test]
    fn a_member_names_all() {
        let mut out = Vec::new();
        member(&filter(&["a".to_owned(), "b/**".to_owned()]), &mut out);
        assert_eq!(out, br#","narrowed":["a","b/**"]"#);
    }
}
