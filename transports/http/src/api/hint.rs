//! Hints for requests of resources and methods that don't exist.

use tailwire_wire::typo::nearest;

/// First segments as others have them, and how it is done here.
const ELSEWHERE: [(&[&str], &str); 10] = [
    (&["publish", "pub", "send", "emit", "produce", "push"], "`POST /topics/{topic}` publishes"),
    (
        &["subscribe", "sub", "listen", "events", "event", "sse", "ws", "websocket", "socket", "hub"],
        "`GET /topics/{topic}` listens, and `GET /stream?topic=…&topic=…` to several",
    ),
    (
        &["topic", "channels", "channel", "queues", "queue"],
        "a topic is `/topics/{topic}`, and `GET /topics` lists them",
    ),
    (&["message"], "`GET /messages/{cursor}` is a message"),
    (&["option", "config", "settings"], "`GET /options/{topic}` has a topic's options"),
    (&["streams"], "`GET /stream?topic=…&topic=…` listens to several topics"),
    (&["health", "live", "livez", "ping", "status"], "`GET /healthz` says whether the process is up"),
    (&["ready", "readiness"], "`GET /readyz` says whether it takes publishes"),
    (
        &["metric", "prometheus"],
        "`GET /metrics` of the listener for operations has the metrics: see admin_listen",
    ),
    (&["openapi", "swagger", "openapi.yaml", "docs", "api", "v1"], "`GET /openapi.json` describes this API"),
];

/// First segments of resources.
const OWN: [(&str, &str); 9] = [
    ("topics", "`/topics/{topic}` has GET, HEAD, POST and DELETE; `GET /topics` is the list"),
    ("stream", "`/stream` has GET, HEAD and POST"),
    ("options", "`/options/{topic}` has GET, HEAD, PUT and DELETE"),
    ("messages", "`/messages/{cursor}` has GET, HEAD and DELETE"),
    ("healthz", "`/healthz` has GET and HEAD"),
    ("readyz", "`/readyz` has GET and HEAD"),
    ("metrics", "`/metrics` has GET and HEAD"),
    ("openapi.json", "`/openapi.json` has GET and HEAD"),
    ("client.js", "`/client.js`, `/client.mjs` and `/client-tabs.mjs` have GET and HEAD"),
];

/// The hint for a path that is none.
pub(crate) fn for_path(method: &str, path: &str) -> Option<&'static str> {
    // A name that something is sent to is mostly meant as a topic.
    let publishes = || matches!(method, "POST" | "PUT").then_some("`POST /topics/{topic}` publishes");
    named(path).or_else(publishes)
}

fn named(path: &str) -> Option<&'static str> {
    let first = path.trim_start_matches('/').split('/').next()?.to_ascii_lowercase();
    let own = |name: &str| OWN.iter().find(|(own, _)| *own == name).map(|(_, hint)| *hint);
    own(&first)
        .or_else(|| ELSEWHERE.iter().find(|(names, _)| names.contains(&&*first)).map(|(_, hint)| *hint))
        .or_else(|| own(nearest(&first, OWN.iter().map(|(name, _)| *name))?))
        .or_else(|| {
            let theirs =
                ELSEWHERE.iter().flat_map(|(names, hint)| names.iter().map(move |name| (*name, *hint)));
            let name = nearest(&first, theirs.clone().map(|(name, _)| name))?;
            theirs.into_iter().find(|(own, _)| *own == name).map(|(_, hint)| hint)
        })
}

/// The hint for a method that a resource hasn't.
pub(crate) fn for_method(method: &str, path: &str) -> Option<&'static str> {
    match method {
        "POST" | "PUT" if path.starts_with("/topics") => Some("`POST /topics/{topic}` publishes"),
        "PUT" | "PATCH" if path.starts_with("/options") => Some("`PUT /options/{topic}` sets options"),
        "POST" => Some("`POST /topics/{topic}` publishes, and `POST /stream` a batch"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_resource_is_named() {
        for (path, word) in [
            ("/publish", "`POST /topics/{topic}`"),
            ("/publish/chat", "`POST /topics/{topic}`"),
            ("/topcis/chat", "`/topics/{topic}`"),
            ("/Topics/chat", "`/topics/{topic}`"),
            ("/topics", "`/topics/{topic}`"),
            ("/subscribe?x", "`GET /topics/{topic}`"),
            ("/health", "`GET /healthz`"),
            ("/metics", "`/metrics`"),
            ("/messages", "`/messages/{cursor}` has GET, HEAD and DELETE"),
            ("/stream/a", "`/stream`"),
        ] {
            let path = path.split('?').next().unwrap_or(path);
            let hint = for_path("GET", path);
            assert!(hint.is_some_and(|hint| hint.contains(word)), "{path}: {hint:?}");
        }
        assert_eq!(for_path("GET", "/favicon.ico"), None);
        assert_eq!(for_path("GET", ""), None);
        for path in ["/chat", "/a/b", "/", "/favicon.ico"] {
            assert_eq!(for_path("POST", path), Some("`POST /topics/{topic}` publishes"), "{path}");
        }
    }
}
