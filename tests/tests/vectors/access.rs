//! Checks of the vectors of access: what terms have in common, what is granted, and what tokens prove.

use serde_json::{Map, Value, json};
use tailwire_access::{Access, Refused, config::AccessConfig};
use tailwire_model::{Action, Filter, Grants, Term};

use crate::{
    signing::{ISSUERS, NOW, access, claims, merged, read, signed, signing_key, token},
    text,
};

fn term(value: &Value) -> Term {
    let name = value.as_str().unwrap_or_else(|| panic!("a term: {value}"));
    Term::parse(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn intersection(case: &Value) -> Value {
    let (one, other) = (term(&case["one"]), term(&case["other"]));
    let both = one.intersect(&other);
    assert_eq!(both, other.intersect(&one), "in either order");
    json!({
        "both": both.as_ref().map(Term::as_str),
        "covers": one.covers(&other),
        "covered": other.covers(&one),
    })
}

pub(crate) fn grants(case: &Value) -> Value {
    let granted = case["granted"].as_object().unwrap();
    let grants = Grants::new(granted.iter().flat_map(|(action, terms)| {
        let action = Action::named(action).unwrap();
        terms.as_array().unwrap().iter().map(move |name| (action, term(name)))
    }));
    let asked: Vec<Term> = case["asked"].as_array().unwrap().iter().map(term).collect();
    let permitted = match Action::named(text(case, "action")).unwrap() {
        Action::Subscribe => grants.permit_subscribe(Filter::new(asked).unwrap()),
        Action::Presence => grants.permit_presence(Filter::new(asked).unwrap()),
        Action::Publish => {
            let Term::Topic(topic) = &asked[0] else { panic!("a topic") };
            grants.permit_publish(topic).map(|()| Filter::from(topic.clone()))
        }
        Action::Manage => grants.permit_manage(&asked[0]).map(|()| Filter::from(asked[0].clone())),
    };
    match permitted {
        Ok(filter) => filter.terms().iter().map(Term::as_str).collect(),
        Err(forbidden) => json!({"forbidden": forbidden.term.as_str()}),
    }
}

pub(crate) fn claim(case: &Value) -> Value {
    let rule = json!({"who": "any", "subscribe": [text(case, "pattern")]});
    let mut section: AccessConfig = serde_json::from_value(json!({"rule": [rule]})).unwrap();
    let issuers: AccessConfig = toml::from_str(ISSUERS).unwrap();
    section.audience = issuers.audience;
    section.issuer = issuers.issuer;
    let Ok(access) = Access::new(&section, &mut read) else {
        return json!("error");
    };
    let principal = access.bearer(&token(&case["claims"]), NOW).unwrap();
    match access.grants(&principal).terms(Action::Subscribe) {
        [] => Value::Null,
        [term] => json!(term.as_str()),
        more => panic!("{more:?}"),
    }
}

pub(crate) fn verdict(case: &Value) -> Value {
    let credential = match case.get("token") {
        Some(token) => token.as_str().unwrap().to_owned(),
        None => {
            let key = text(case, "sign");
            let algorithm = format!("{:?}", signing_key(key).1);
            let none = Value::Object(Map::new());
            let header = merged(json!({"alg": algorithm}), case.get("header").unwrap_or(&none));
            signed(key, &header, &claims("hs", case.get("claims").unwrap_or(&none)))
        }
    };
    match access(ISSUERS).bearer(&credential, NOW) {
        Ok(principal) => json!({"scope": principal.scope()}),
        Err(Refused::Token(error)) => json!({"check": error.check().name(), "code": error.code()}),
        Err(other) => panic!("{other:?}"),
    }
}
