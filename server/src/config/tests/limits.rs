//! The `[limits]` of the file.

use std::num::NonZeroU32;

use tailwire_http::ClientBounds;
use tailwire_model::Rate;

use super::*;

#[test]
fn limits_are_as_the_file_sets_them() {
    let limits = |file| settle_from(&ServeArgs::default(), &[], Some(file)).unwrap().limits;
    let number = NonZeroU32::new;
    assert_eq!(limits(""), Limits::default());
    assert_eq!(limits("[limits]"), Limits::default());
    let set = limits(
        "[limits.address]\nconnections = 1\nconnects_per_second = 2\nrequests_per_second = 3\n\
         publishes_per_second = 4\nbytes_per_second = 5_000\nnew_topics_per_minute = 6\nsubscriptions = 7\n\
         [limits.total]\nconnections = 4_294_967_295",
    );
    let address = ClientBounds {
        connections: number(1),
        connects: number(2).map(Rate::per_second),
        requests: number(3).map(Rate::per_second),
        publishes: number(4).map(Rate::per_second),
        bytes: number(5000).map(Rate::per_second),
        new_topics: number(6).map(Rate::per_minute),
        subscriptions: number(7),
    };
    let total = ClientBounds { connections: number(u32::MAX), ..ClientBounds::default() };
    assert_eq!(set, Limits { address, total, ..Limits::default() });
    let shown: Vec<_> = bounds_set(&address).map(|(_, bound)| bound).collect();
    assert_eq!(shown, [1, 2, 3, 4, 5000, 6, 7]);
}

#[test]
fn limits_that_are_none_are_refused() {
    for (file, expect) in [
        (
            "limits = 1",
            "tailwire.toml:1: limits is of type integer; it should be a table with address, principal, total and quota",
        ),
        ("[limits.adress]", "tailwire.toml:1: unknown key `limits.adress`; did you mean limits.address?"),
        (
            "limits.total = 1",
            "tailwire.toml:1: limits.total is of type integer; it should be a table of bounds",
        ),
        (
            "[limits.total]\nconnectoins = 1",
            "tailwire.toml:2: unknown key `limits.total.connectoins`; did you mean connections?",
        ),
        (
            "[limits.principal]\nsubscriptions = 0",
            "tailwire.toml:2: limits.principal.subscriptions can't be 0: it is a whole number from 1 to 4294967295; leave it out for no limit",
        ),
        (
            "[limits.principal]\nsubscriptions = 4294967296",
            "tailwire.toml:2: limits.principal.subscriptions can't be 4294967296: it is a whole number from 1 to 4294967295; leave it out for no limit",
        ),
        (
            "[limits.principal]\nsubscriptions = 'many'",
            "tailwire.toml:2: limits.principal.subscriptions is of type string; it should be a number",
        ),
        (
            "[limits]\nquota = 1",
            "tailwire.toml:2: limits.quota is of type integer; it should be a list of tables, each headed [[limits.quota]]",
        ),
        (
            "[[limits.quota]]\nbytes = 1",
            "tailwire.toml:1: limits.quota needs a pattern: the topics that it is for",
        ),
        (
            "[[limits.quota]]\npattern = 'a/**'",
            "tailwire.toml:1: limits.quota needs bytes or topics: how much those topics may have together",
        ),
        (
            "[[limits.quota]]\npattern = 'a'",
            "tailwire.toml:2: limits.quota.pattern can't be `a`: it is a pattern of clients' topics, as in tenants/acme/**",
        ),
        (
            "[[limits.quota]]\npattern = 'a/**'\nbytes = -1",
            "tailwire.toml:3: limits.quota.bytes can't be -1: it is a whole number from 0 on",
        ),
        (
            "[[limits.quota]]\npattern = 'a/**'\nbites = 1",
            "tailwire.toml:3: unknown key `limits.quota.bites`; did you mean bytes?",
        ),
        (
            "[[limits.quota]]\npattern = 'a/**'\nbytes = 1\n[[limits.quota]]\npattern = 'a/**'\nbytes = 2",
            "tailwire.toml:4: limits.quota can't name `a/**` twice",
        ),
    ] {
        check_error(&[], file, expect);
    }
}

#[test]
fn quotas_are_as_the_file_sets_them() {
    let file = "[[limits.quota]]\npattern = 'a/**'\nbytes = 1_000\n[[limits.quota]]\npattern = '*/b'\ntopics = 0\nbytes = 5";
    let quotas = settle_from(&ServeArgs::default(), &[], Some(file)).unwrap().quotas;
    let shown: Vec<_> =
        quotas.iter().map(|quota| (quota.pattern.as_str(), quota.bytes, quota.topics)).collect();
    assert_eq!(shown, [("a/**", Some(1000), None), ("*/b", Some(5), Some(0))]);
}
