//! Identity over HTTP: each way that a request can come has its principal, and what a policy hides stays hidden there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/granting.rs"]
mod granting;
#[path = "support/served.rs"]
mod served;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tailwire_model::{Principal, Timestamp};

use crate::{
    granting::principal,
    served::{Served, messages},
};

/// Ann reads and writes `a/**`, Bob reads `b/**`, anonymous writes all.
fn two_users() -> Served {
    let served = Served::start();
    served.policy.grant(&Principal::ANONYMOUS, &["publish **"]);
    served.policy.grant(&principal("ann", None), &["subscribe a/**", "publish a/**", "manage a/**"]);
    served.policy.grant(&principal("bob", None), &["subscribe b/**"]);
    served
}

fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

#[test]
fn every_request_has_the_principal_of_its_credential() {
    let served = two_users();
    for name in ["a/x", "b/x", "a/y", "b/y"] {
        assert_eq!(served.post(None, &format!("/topics/{name}"), "1").status, 201);
    }
    let all = |who| messages(&served.get(who, "/topics/**").json());
    assert_eq!(all(Some("ann")), ["a/x", "a/y"]);
    assert_eq!(all(Some("bob")), ["b/x", "b/y"]);
    let list = |who, limit| {
        let list = served.get(who, &format!("/topics?limit={limit}")).json();
        let names: Vec<String> = list["topics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|own| own["topic"].as_str().unwrap().into())
            .collect();
        (names, list["next"].as_str().map(str::to_owned))
    };
    assert_eq!(list(Some("bob"), 1), (vec!["b/x".into()], Some("b/x".into())), "behind two that are hidden");
    assert_eq!(list(Some("ann"), 2), (vec!["a/x".into(), "a/y".into()], None), "and none is told of");
    for (who, method, path, status) in [
        (None, "GET", "/topics/a/x", 401),
        (Some("ann"), "GET", "/topics/b/x", 403),
        (Some("ann"), "GET", "/topics/b/x?format=raw", 403),
        (Some("ann"), "GET", "/topics/b/x?format=sse", 403),
        (Some("ann"), "GET", "/topics/b/x?format=ndjson", 403),
        (Some("ann"), "GET", "/topics/b/x?wait=1&after=latest", 403),
        (Some("ann"), "GET", "/stream?topic=a/x&topic=b/x", 403),
        (Some("ann"), "POST", "/topics/b/x", 403),
        (Some("bob"), "POST", "/topics/b/x", 403),
        (Some("bob"), "DELETE", "/topics/b/x", 403),
        (Some("bob"), "GET", "/options/b/x", 403),
        (Some("ann"), "GET", "/options/a/x", 200),
        (Some("eve!"), "GET", "/topics/a/x", 401),
        (Some("eve!"), "GET", "/healthz", 200),
        (Some("eve!"), "GET", "/", 200),
    ] {
        let answer = served.ask(who, method, path, "");
        assert_eq!(answer.status, status, "{who:?} {method} {path}: {}", answer.body);
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{who:?} {method} {path}");
    }
    let cursor = served.get(Some("bob"), "/topics/b/x").json()["cursor"].as_str().unwrap().to_owned();
    assert_eq!(served.get(Some("bob"), &format!("/messages/{cursor}")).status, 200);
    assert_eq!(served.get(Some("ann"), &format!("/messages/{cursor}")).status, 403);
}

#[test]
fn a_principal_that_takes_time_to_find_is_waited_for() {
    let served = two_users();
    assert_eq!(served.post(Some("ann~"), "/topics/a/x", "1").status, 201);
    assert_eq!(messages(&served.get(Some("ann~"), "/topics/**").json()), ["a/x"]);
    assert_eq!(served.get(Some("eve!~"), "/topics/a/x").status, 401);
}

#[test]
fn what_is_for_somebody_is_for_no_cache() {
    let served = two_users();
    served.policy.grant(&Principal::ANONYMOUS, &["publish **", "subscribe a/**"]);
    for _ in 0..3 {
        served.post(None, "/topics/a/x", "1");
    }
    let first = served.get(None, "/topics/a/x?limit=1").json()["cursor"].as_str().unwrap().to_owned();
    let full = |who| served.get(who, &format!("/topics/a/x?limit=1&after={first}"));
    assert!(full(None).header("cache-control").unwrap().starts_with("public"));
    assert_eq!(full(None).header("vary").unwrap(), "accept-encoding, accept");
    let own = full(Some("ann"));
    assert_eq!(own.header("cache-control").unwrap(), "private, no-cache");
    assert!(own.headers("vary").any(|value| value.contains("authorization, cookie")));
}

#[test]
fn long_polls_of_one_url_are_answered_by_principal_and_representation() {
    let served = two_users();
    served.post(None, "/topics/a/x", "1");
    let cursor = served.get(Some("ann"), "/topics/**").json()["cursor"].as_str().unwrap().to_owned();
    let path = format!("/topics/**?after={cursor}&wait=20");
    let answers = std::thread::scope(|scope| {
        let polls = ["ann", "ann", "bob", "bob"].map(|who| {
            let (served, path) = (&served, &path);
            scope.spawn(move || served.get(Some(who), path).json())
        });
        served.until_readers(2);
        served.post(None, "/topics/a/y", "1");
        served.post(None, "/topics/b/y", "1");
        polls.map(|poll| messages(&poll.join().unwrap()))
    });
    assert_eq!(answers, [["a/y"], ["a/y"], ["b/y"], ["b/y"]]);
}

#[test]
fn keys_are_scoped_by_principal() {
    let served = two_users();
    served.policy.grant(&principal("bob", None), &["publish a/**"]);
    let post = |who| served.ask_with(Some(who), "POST", "/topics/a/x", &["Idempotency-Key: k"], "1");
    let (first, again, other) = (post("ann"), post("ann"), post("bob"));
    assert_eq!((first.status, again.status, other.status), (201, 201, 201));
    assert_eq!(first.json()["cursor"], again.json()["cursor"]);
    assert_ne!(first.json()["cursor"], other.json()["cursor"]);
}

#[test]
fn a_stream_ends_with_its_credential_and_when_it_is_revoked() {
    let served = two_users();
    let soon = Timestamp(now_ms() + 500);
    let short = principal("ann", Some(soon));
    served.policy.grant(&short, &["subscribe a/**"]);
    for path in ["/topics/a/x?format=sse", "/topics/a/x?format=ndjson"] {
        let mut stream = served.stream(Some(&format!("ann@{}", now_ms() + 300)), path);
        let all = stream.rest();
        assert!(all.contains(r#""reason":"expired""#), "{all}");
        let mut stream = served.stream(Some("ann"), path);
        stream.until("caught_up");
        served.policy.grant(&principal("ann", None), &[]);
        served.broker.review(|_| true);
        let rest = stream.rest();
        assert!(rest.contains(r#""reason":"revoked""#), "{rest}");
        served.policy.grant(&principal("ann", None), &["subscribe a/**"]);
    }
}

#[test]
fn a_websocket_changes_its_principal() {
    let served = two_users();
    let mut socket = served.socket(None, "/topics/a/x");
    assert_eq!(socket.line()["authenticate"], true, "the topic is not for anonymous");
    socket.send(&json!({"kind": "authenticate", "id": 1, "token": "eve!"}));
    assert_eq!(socket.line()["code"], "unauthorized");
    socket.send(&json!({"kind": "authenticate", "id": 2, "token": "ann~"}));
    assert_eq!(socket.line(), json!({"kind": "ok", "id": 2}));
    let opened = socket.line();
    assert_eq!((&opened["kind"], &opened["id"]), (&json!("ok"), &json!(0)));
    assert_eq!(socket.line()["kind"], "caught_up");
    served.post(None, "/topics/a/x", "1");
    assert_eq!(socket.line()["topic"], "a/x");
    socket.send(&json!({"kind": "subscribe", "id": 3, "topic": "**"}));
    assert_eq!(socket.line()["id"], 3);
    assert_eq!(socket.line()["kind"], "caught_up");
    served.post(None, "/topics/b/x", "1");
    served.post(None, "/topics/a/y", "1");
    assert_eq!(socket.line()["topic"], "a/y", "`**` is all that Ann may read");
    // The same again, until soon: nothing is lost, and then it ends.
    socket.send(&json!({"kind": "authenticate", "id": 4, "token": format!("ann@{}", now_ms() + 1_000)}));
    assert_eq!(socket.line(), json!({"kind": "ok", "id": 4}));
    served.post(None, "/topics/a/y", "1");
    assert_eq!(socket.line()["topic"], "a/y");
    let bye = socket.line();
    assert_eq!((&bye["kind"], &bye["reason"]), (&json!("bye"), &json!("expired")));
    assert_eq!(socket.close_code(), 1012);
}

#[test]
fn a_websocket_loses_what_its_principal_may_not_read_any_more() {
    let served = two_users();
    let mut pattern = served.socket(Some("ann"), "/topics/**");
    let mut named = served.socket(Some("ann"), "/topics/a/x");
    for socket in [&mut pattern, &mut named] {
        let kinds: Vec<Value> = (0..3).map(|_| socket.line()["kind"].clone()).collect();
        assert_eq!(kinds, ["welcome", "ok", "caught_up"]);
    }
    served.policy.grant(&principal("ann", None), &["subscribe b/**"]);
    served.broker.review(|principal| !principal.is_anonymous());
    let bye = named.line();
    assert_eq!((&bye["kind"], &bye["reason"]), (&json!("bye"), &json!("revoked")));
    assert_eq!(named.close_code(), 1008);
    served.post(None, "/topics/a/x", "1");
    served.post(None, "/topics/b/x", "1");
    assert_eq!(pattern.line()["topic"], "b/x");
}

#[test]
fn an_unpermitted_websocket_waits_for_a_credential_only_for_a_while() {
    let served = two_users();
    let mut socket = served.socket(None, "/topics/a/x");
    assert_eq!(socket.line()["kind"], "welcome");
    socket.wait(Duration::from_secs(20));
    assert_eq!(socket.close_code(), 3000);
    let refused = served.ask_with(
        Some("ann"),
        "GET",
        "/topics/b/x",
        &[
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ],
        "",
    );
    assert_eq!(refused.status, 403, "a credential that was shown, and isn't good for that");
}
