use super::*;

fn term(name: &str) -> Term {
    Term::parse(name).unwrap()
}

fn grants(granted: &[(Action, &str)]) -> Grants {
    Grants::new(granted.iter().map(|(action, name)| (*action, term(name))))
}

fn filter(names: &[&str]) -> Filter {
    Filter::new(names.iter().map(|name| term(name)).collect()).unwrap()
}

fn names(filter: &Filter) -> Vec<&str> {
    filter.terms().iter().map(Term::as_str).collect()
}

#[test]
fn a_pattern_is_narrowed_and_a_named_topic_is_refused() {
    let grants = grants(&[(Action::Subscribe, "chat/**"), (Action::Subscribe, "*/news")]);
    let narrowed = grants.permit_subscribe(filter(&["**"])).unwrap();
    assert_eq!(names(&narrowed), ["*/news", "chat/**"]);
    let narrowed = grants.permit_subscribe(filter(&["chat/a", "*/*"])).unwrap();
    assert_eq!(names(&narrowed), ["*/news", "chat/*"]);
    let refused = grants.permit_subscribe(filter(&["chat/**", "other"])).unwrap_err();
    assert_eq!(refused.to_string(), "not permitted to subscribe other");
    let narrowed = grants.permit_subscribe(filter(&["other/*/x", "z/**"]));
    assert!(narrowed.is_ok_and(|narrowed| names(&narrowed) == ["z/news"]));
    let refused = grants.permit_subscribe(filter(&["x/y/*"])).unwrap_err();
    assert_eq!(refused.term, term("x/y/*"));
}

#[test]
fn what_is_granted_whole_stays_as_it_was_asked() {
    let all = grants(&[(Action::Subscribe, "**")]);
    let asked = filter(&["a", "a/*", "b/**"]);
    assert_eq!(all.permit_subscribe(asked.clone()), Ok(asked));
    let empty = Filter::new(Vec::new()).unwrap();
    assert_eq!(Grants::NONE.permit_subscribe(empty.clone()), Ok(empty), "nothing asked, nothing refused");
}

#[test]
fn who_listens_is_seen_by_a_grant_of_presence_or_of_the_topic_itself() {
    let own = grants(&[(Action::Subscribe, "**"), (Action::Presence, "rooms/**")]);
    assert_eq!(names(&own.permit_subscribe(filter(&["$presence/**"])).unwrap()), ["$presence/rooms/**"]);
    assert!(own.permit_subscribe(filter(&["$presence/rooms/a"])).is_ok());
    assert!(own.permit_subscribe(filter(&["$presence/other"])).is_err());
    assert_eq!(names(&own.permit_presence(filter(&["**"])).unwrap()), ["rooms/**"]);
    let all = grants(&[(Action::Subscribe, "$presence/**")]);
    assert!(all.permit_subscribe(filter(&["$presence/other"])).is_ok());
    assert!(all.permit_presence(filter(&["other"])).is_err(), "a subscription is another thing");
}

#[test]
fn the_brokers_own_topics_are_granted_by_name_only() {
    let all = grants(&[(Action::Subscribe, "**"), (Action::Manage, "**")]);
    assert!(all.permit_subscribe(filter(&["$sys/x"])).is_err());
    assert_eq!(names(&all.permit_subscribe(filter(&["**", "$sys/**"])).unwrap()), ["**"]);
    assert!(all.permit_manage(&term("$sys/**")).is_err());
    let own = grants(&[(Action::Subscribe, "$sys/**")]);
    assert_eq!(names(&own.permit_subscribe(filter(&["$sys/x"])).unwrap()), ["$sys/x"]);
    assert!(own.permit_subscribe(filter(&["**"])).is_err(), "a wildcard asks for none of them");
}

#[test]
fn a_pattern_is_managed_as_a_whole_or_not_at_all() {
    let two = grants(&[(Action::Manage, "a/*"), (Action::Manage, "a/*/**")]);
    assert!(two.permit_manage(&term("a/b")).is_ok());
    assert!(two.permit_manage(&term("a/*")).is_ok());
    assert!(two.permit_manage(&term("a/**")).is_err(), "though both together would");
}

#[test]
fn grants_are_summed_and_kept_minimal() {
    let sum = Grants::sum([
        &grants(&[(Action::Publish, "a/b"), (Action::Publish, "c")]),
        &grants(&[(Action::Publish, "a/**"), (Action::Manage, "a/b")]),
    ]);
    assert_eq!(sum.terms(Action::Publish), [term("c"), term("a/**")]);
    assert_eq!(sum.terms(Action::Manage), [term("a/b")]);
    assert!(sum.permit_publish(&Topic::parse("a/x/y").unwrap()).is_ok());
    let refused = sum.permit_publish(&Topic::parse("a").unwrap()).unwrap_err();
    assert_eq!((refused.action, refused.term), (Action::Publish, term("a")));
    assert_eq!(sum.all().count(), 3);
}
