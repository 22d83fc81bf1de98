//! Heads of requests: names in paths, queries, cursors, tags, what is accepted, and addresses that proxies name. A name that is
//! read is the name that its encoding names, and what stands in front of a proxy's own word changes nothing.

#![no_main]
#![allow(dead_code)]

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tailwire_model::{Cursor, Network};
use tailwire_wire::{Resource, etag::IfNoneMatch, narrowed, negotiate, options, path, query, wanted::wanted};

#[path = "../../../transports/http/src/connection/caller.rs"]
mod caller;

use caller::{ProxyHeader, TrustedProxies};

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(4, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (name, query, header, value) = (part(), part(), part(), part());
    names(name);
    queries(name, query, header, value);
    proxies(value);
});

fn names(raw: &str) {
    if let Ok(term) = path::term(raw) {
        let mut encoded = String::new();
        path::encode(term.as_str(), &mut encoded);
        assert_eq!(path::term(&encoded), Ok(term));
    }
    if let Ok(topic) = path::topic(raw) {
        assert_eq!(path::term(raw).map(|term| term.as_str().to_owned()).as_deref(), Ok(topic.as_str()));
    }
    if let Ok(cursor) = raw.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), raw);
    }
    let _ = options::term(raw);
    let _ = wanted("GET", &format!("/topics/{raw}"), None, false);
}

fn queries(raw: &str, query: &str, header: &str, value: &str) {
    let _ = (query::topics(Some(query)), query::none(Some(query)), wanted("GET", "/stream", Some(query), false));
    let headers = [(header, value.as_bytes())];
    let read = |resource| negotiate::read_request(resource, Some(query), false, headers, |_| None);
    if let Ok(asked) = read(Resource::Stream) {
        let narrowed_to = narrowed::header(&asked.filter, usize::MAX);
        if !narrowed_to.contains("more=") && !asked.filter.is_empty() {
            let again = negotiate::read_request(Resource::Stream, Some(&narrowed_to), false, [], |_| None);
            assert_eq!(again.map(|again| again.filter), Ok(asked.filter), "{narrowed_to}");
        }
    }
    if let Ok(term) = path::term(raw) {
        let _ = read(Resource::Term(term));
    }
    let _ = IfNoneMatch::parse(value);
    let _ = value.parse::<Network>();
}

fn proxies(value: &str) {
    let client: IpAddr = [203, 0, 113, 7].into();
    let proxy = Some(IpAddr::from([10, 0, 0, 1]));
    for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
        let networks = vec!["10.0.0.0/8".parse().expect("a network")];
        let trusted = TrustedProxies { networks, over_unix: false, header };
        let (name, own) = match header {
            ProxyHeader::XForwardedFor => ("x-forwarded-for", "203.0.113.7"),
            ProxyHeader::Forwarded => ("forwarded", "for=203.0.113.7"),
        };
        let lines = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            lines.iter().filter_map(|line| HeaderValue::from_str(line).ok()).for_each(|line| _ = headers.append(name, line));
            headers
        };
        // Nobody believes it, or it stands in front of what the proxy adds.
        assert_eq!(trusted.caller(Some(client), false, &lines(&[value])).address, Some(client));
        for added in [lines(&[value, own]), lines(&[&format!("{value}, {own}")])] {
            if added.get_all(name).iter().any(|line| line.as_bytes().ends_with(own.as_bytes())) {
                assert_eq!(trusted.caller(proxy, false, &added).address, Some(client), "{value:?}");
            }
        }
        let _ = trusted.caller(proxy, false, &lines(&[value]));
    }
}
