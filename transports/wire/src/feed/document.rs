//! Whole documents of entries.

use tailwire_model::{Cursor, Term};

use super::{
    atom,
    clean::one_line,
    head::{FeedHead, feed_id},
    json,
};
use crate::{document::Document, page, path, query};

/// Characters of a feed's title: the names of many topics.
const TITLE_CHARS: usize = 200;

/// Appends an Atom document of entries.
pub(crate) fn atom_document(document: &Document<'_>, out: &mut Vec<u8>) {
    with_head(document, |head| atom::head(head, out));
    document.items.iter().for_each(|item| out.extend_from_slice(item));
    atom::end(out);
}

/// Appends a JSON Feed of items.
pub(crate) fn json_document(document: &Document<'_>, out: &mut Vec<u8>) {
    with_head(document, |head| json::head(head, out));
    document.items.iter().for_each(|item| out.extend_from_slice(item));
    json::end(out);
}

/// Gives the head of a document whose `next` comes after `cursor`, if there is more.
pub(super) fn with_head(document: &Document<'_>, write: impl FnOnce(&FeedHead<'_>)) {
    let about = document.about;
    let next = document.more.then(|| page::link_next(about.query, document.cursor, None));
    let is_set = query_has(about.query, "topic");
    let (place, ups) = match about.filter.terms() {
        [term] if !is_set => {
            let mut place = String::from("topics/");
            path::encode(term.as_str(), &mut place);
            (place, term.as_str().split('/').count())
        }
        _ => ("stream".to_owned(), 0),
    };
    let relative = if ups == 0 { "./".to_owned() } else { "../".repeat(ups) };
    let base = about.public_url.unwrap_or(&relative);
    let link = |query: &str| {
        let at = if query.is_empty() { place.clone() } else { format!("{place}?{query}") };
        about.public_url.map_or(at.clone(), |url| format!("{url}{at}"))
    };
    let names = about.filter.terms().iter().map(Term::as_str).collect::<Vec<_>>().join(", ");
    let own = link(about.query.unwrap_or_default());
    let next = next.map(|next| link(next.trim_start_matches('?')));
    let archive = |end: Cursor| link(page::link_archive(about.query, end).trim_start_matches('?'));
    let (previous, following) = (about.archives.previous.map(archive), about.archives.next.map(archive));
    let current = about.archives.is_archive.then(|| link(&page::link_current(about.query)));
    write(&FeedHead {
        id: &feed_id(&place, about.filter),
        title: &one_line(about.title.unwrap_or(&names), TITLE_CHARS),
        description: about.description,
        updated: about.updated,
        base,
        own: &own,
        current: current.as_deref(),
        prev_archive: previous.as_deref(),
        next_archive: following.as_deref(),
        next: next.as_deref(),
        hub: about.hub,
        ttl_minutes: about.pace_ms.map(|ms| ms.div_ceil(60_000).max(1)),
    });
}

fn query_has(query: Option<&str>, name: &str) -> bool {
    query::pairs(query).any(|(own, _)| own == name)
}
