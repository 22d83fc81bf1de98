//! Terms over a small alphabet against brute force: every pair, and every topic. The topics have a segment more than the
//! terms, and a letter that no term names, so that a wildcard is never just the sum of the names.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::topic::Topic;

fn names(segments: &[&str], depth: usize) -> Vec<String> {
    let mut all: Vec<String> = segments.iter().map(ToString::to_string).collect();
    let mut longest = all.clone();
    for _ in 1..depth {
        let longer = |name: &String| -> Vec<String> {
            segments.iter().map(|segment| format!("{name}/{segment}")).collect()
        };
        longest = longest.iter().flat_map(longer).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// All terms of up to three segments.
fn terms() -> Vec<Term> {
    names(&["a", "$s", "*", "**"], 3).iter().filter_map(|name| Term::parse(name).ok()).collect()
}

fn topics() -> Vec<Topic> {
    names(&["a", "b", "$s"], 4).iter().map(|name| Topic::parse(name).unwrap()).collect()
}

#[test]
fn the_intersection_matches_just_what_both_match() {
    let (terms, topics) = (terms(), topics());
    assert_eq!((terms.len(), topics.len()), (4 + 12 + 36, 3 + 9 + 27 + 81));
    for one in &terms {
        for two in &terms {
            let both = one.intersect(two);
            assert_eq!(both, two.intersect(one));
            for topic in &topics {
                let expected = one.matches(topic) && two.matches(topic);
                let actual = both.as_ref().is_some_and(|term| term.matches(topic));
                assert_eq!(actual, expected, "{one:?} and {two:?} make {both:?}: {topic}");
            }
        }
    }
}

#[test]
fn a_term_covers_just_those_whose_topics_it_matches() {
    let (terms, topics) = (terms(), topics());
    for one in &terms {
        for two in &terms {
            // One that matches nothing doesn't exist: `$s` is named in the first place or not at all.
            let expected = topics.iter().all(|topic| one.matches(topic) || !two.matches(topic));
            assert_eq!(one.covers(two), expected, "{one:?} covers {two:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_minimal_set_matches_the_same_and_none_of_it_can_go(set in vec(select(terms()), 0..8)) {
        let least = minimise(set.clone());
        for topic in topics() {
            let expected = set.iter().any(|term| term.matches(&topic));
            prop_assert_eq!(least.iter().any(|term| term.matches(&topic)), expected);
        }
        for term in &least {
            prop_assert!(least.iter().all(|other| other == term || !other.covers(term)));
        }
    }

    #[test]
    fn a_narrowed_filter_matches_what_it_did_and_is_granted(
        filter in vec(select(terms()), 0..6), grants in vec(select(terms()), 0..6),
    ) {
        let filter = Filter::new(filter).unwrap();
        let narrowed = narrow(filter.clone(), &grants).unwrap();
        for topic in topics() {
            let granted = grants.iter().any(|grant| grant.matches(&topic));
            prop_assert_eq!(narrowed.matches(&topic), filter.matches(&topic) && granted, "{}", topic);
        }
        prop_assert_eq!(narrowed.terms(), minimise(narrowed.terms().to_vec()));
    }
}

fn term(name: &str) -> Term {
    Term::parse(name).unwrap()
}

#[test]
fn an_intersection_that_is_longer_than_any_topic_is_none() {
    let long = "x".repeat(253);
    assert_eq!(term(&format!("*/{long}")).intersect(&term(&format!("{long}/*"))), None);
    // With both stars it has 256 bytes; the topics that match have 255, the last segment one of them.
    let (one, two) = ("x".repeat(126), "y".repeat(126));
    let both = term(&format!("{one}/*/**")).intersect(&term(&format!("*/{two}/**"))).unwrap();
    assert_eq!(both, term(&format!("{one}/{two}/*")));
    assert_eq!(both.as_str().len(), TOPIC_BYTES_MAX);
}

#[test]
fn a_filter_is_not_narrowed_to_more_than_can_be_read_at_once() {
    let grants: Vec<Term> = (0..=NARROWED_TERMS_MAX).map(|n| term(&format!("t/{n}"))).collect();
    let all = Filter::from(term("**"));
    assert_eq!(narrow(all.clone(), &grants), None);
    assert_eq!(narrow(all, &grants[1..]).map(|filter| filter.terms().len()), Some(NARROWED_TERMS_MAX));
}
