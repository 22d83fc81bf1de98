//! Errors as clients see them: problem details (RFC 9457) with one stable code each, the same on every transport.

use std::borrow::Cow;

use tailwire_model::{Cursor, FilterError, Gap, TopicError};

use crate::{json, quota_policy::QuotaPolicy};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:literal, $title:literal;)+) => {
        /// The code of an error: stable, for programs. The name on the wire is [`Code::as_str`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code on the wire, in kebab-case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status (RFC 9110 §15).
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// The code in words, the same for every occurrence (RFC 9457 §3.1.3).
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    /// The name is not a topic or pattern.
    TopicInvalid = "topic-invalid", 400, "The topic's name is not valid";
    /// A pattern where one topic is meant.
    PatternNotAllowed = "pattern-not-allowed", 400, "A pattern can be read, and nothing else";
    /// More terms than a filter has.
    FilterTooLarge = "filter-too-large", 400, "Too many topics in one filter";
    /// Not a cursor.
    CursorInvalid = "cursor-invalid", 400, "The cursor is malformed";
    /// A query parameter, or a member of a client's line, has a value that it can't have.
    ParameterInvalid = "parameter-invalid", 400, "A parameter is not valid";
    /// A query parameter, or a member of a client's line, is missing.
    ParameterMissing = "parameter-missing", 400, "A parameter is missing";
    /// The body was announced as JSON and isn't.
    JsonInvalid = "json-invalid", 400, "The data is not valid JSON";
    /// The `data` of a line does not fit its type or encoding.
    DataInvalid = "data-invalid", 400, "The data does not fit its type or encoding";
    /// The batch is empty, or a line of it is malformed.
    BatchInvalid = "batch-invalid", 400, "The batch is not valid";
    /// More messages than a batch holds.
    BatchTooLarge = "batch-too-large", 413, "The batch has too many messages";
    /// One message's body is too large.
    MessageTooLarge = "message-too-large", 413, "The message is too large";
    /// The request's body is too large.
    BodyTooLarge = "body-too-large", 413, "The body is too large";
    /// The type is not a media type, or too long.
    MediaTypeInvalid = "media-type-invalid", 415, "The content type is not one that is taken here";
    /// The body has a content coding that can't be taken off.
    CodingUnknown = "coding-unknown", 415, "The content coding is not one that is taken here";
    /// The event's name breaks its rule.
    EventInvalid = "event-invalid", 400, "The event's name is not valid";
    /// The message's key breaks its rule.
    KeyInvalid = "key-invalid", 400, "The message's key is not valid";
    /// One of the message's own headers breaks its rule.
    HeaderInvalid = "header-invalid", 400, "A header of the message is not valid";
    /// The message's own headers are too many or too large.
    HeadersTooLarge = "headers-too-large", 400, "The message's headers are too large";
    /// The idempotency key breaks its rule.
    IdempotencyKeyInvalid = "idempotency-key-invalid", 400, "The idempotency key is not valid";
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "idempotency-key-reused", 422, "The idempotency key was used for another request";
    /// A precondition is malformed, or stands where there is none.
    ConditionInvalid = "condition-invalid", 400, "The precondition is not valid";
    /// The precondition does not hold.
    ConditionFailed = "condition-failed", 412, "The precondition does not hold";
    /// The request is malformed as HTTP.
    RequestInvalid = "request-invalid", 400, "The request is malformed";
    /// Clear text, where TLS is spoken.
    TlsRequired = "tls-required", 400, "TLS is spoken here";
    /// The request's head has too many bytes or fields.
    RequestHeadTooLarge = "request-head-too-large", 431, "The request's head is too large";
    /// The body has a transfer coding that is not taken.
    TransferCodingUnknown = "transfer-coding-unknown", 501, "The only transfer coding here is chunked";
    /// Another major version of HTTP.
    VersionUnknown = "version-unknown", 505, "The version of HTTP is unknown";
    /// A client's line is not one of the protocol's.
    LineInvalid = "line-invalid", 400, "The line is not a request";
    /// A client's line has a `kind` that the broker does not know.
    LineUnknown = "line-unknown", 400, "The kind of request is unknown";
    /// The `id` names a subscription already.
    SubscriptionExists = "subscription-exists", 409, "The connection has a subscription of this id";
    /// The topic does not keep one message a key.
    TopicNotCompacted = "topic-not-compacted", 409, "The topic is not compacted";
    /// No subscription of this name.
    SubscriptionUnknown = "subscription-unknown", 404, "The connection has no subscription of this id";
    /// One more subscription than a connection may have.
    SubscriptionsTooMany = "subscriptions-too-many", 429, "The connection has too many subscriptions";
    /// No protocol among those offered is known.
    SubprotocolUnknown = "subprotocol-unknown", 400, "None of the offered subprotocols is known";
    /// Only a WebSocket is served here.
    UpgradeRequired = "upgrade-required", 426, "A WebSocket is needed";
    /// The WebSocket handshake is malformed.
    HandshakeInvalid = "handshake-invalid", 400, "The WebSocket handshake is not valid";
    /// No credentials, or ones that don't hold.
    Unauthorized = "unauthorized", 401, "Valid credentials are needed";
    /// A credential that is malformed, unknown, made by somebody else, or revoked.
    TokenInvalid = "token-invalid", 401, "The credential is not valid";
    /// A credential whose time is over.
    TokenExpired = "token-expired", 401, "The credential has expired";
    /// The keys or the hook that check a credential can't be reached at the moment.
    AccessUnavailable = "access-unavailable", 503, "Credentials can't be checked at the moment";
    /// More than a limit lets a client do in so short a time, or have open.
    RateLimited = "rate-limited", 429, "Too many requests";
    /// As many keys, or revocations, as there may be.
    RecordsTooMany = "records-too-many", 429, "There are too many keys or revocations";
    /// Not permitted.
    Forbidden = "forbidden", 403, "Not permitted";
    /// The request came by a listener on which nothing can be changed.
    ReadOnly = "read-only", 403, "Nothing can be changed by this listener";
    /// A topic of the broker's own.
    TopicReserved = "topic-reserved", 403, "The topic is the broker's own";
    /// The page that makes the request is from elsewhere.
    ForeignOrigin = "foreign-origin", 403, "Requests from this origin are not permitted";
    /// The request names a host that this listener is not.
    ForeignHost = "foreign-host", 421, "Requests for this host are not served here";
    /// No such resource.
    NotFound = "not-found", 404, "There is no such resource";
    /// No message has this cursor.
    MessageNotFound = "message-not-found", 404, "There is no message with this cursor";
    /// The message was trimmed.
    MessageGone = "message-gone", 410, "The message no longer exists";
    /// Messages of the archive were trimmed.
    ArchiveGone = "archive-gone", 410, "The archive no longer exists in full";
    /// The resource does not have this method.
    MethodNotAllowed = "method-not-allowed", 405, "The resource does not have this method";
    /// No representation is acceptable.
    NotAcceptable = "not-acceptable", 406, "No representation of the resource is acceptable";
    /// The request took too long to arrive.
    Timeout = "timeout", 408, "The request took too long";
    /// Messages that the cursor has not seen no longer exist.
    Gap = "gap", 410, "Messages after the cursor no longer exist";
    /// The broker has more to do than it can.
    Overloaded = "overloaded", 503, "The broker is overloaded";
    /// The broker is going down.
    Draining = "draining", 503, "The broker is shutting down";
    /// It is not known whether the messages were stored.
    OutcomeUnknown = "outcome-unknown", 503, "It is not known whether the messages were stored";
    /// The cursor has seen what this node has yet to apply.
    Behind = "behind", 503, "This node is behind the cursor";
    /// The log is being opened.
    Starting = "starting", 503, "The broker is starting";
    /// The store failed; nothing was stored.
    StorageFailed = "storage-failed", 503, "The store failed";
    /// The store is damaged: no retry helps.
    StorageDamaged = "storage-damaged", 500, "What is stored there is damaged";
    /// The options of a topic or pattern break a rule.
    OptionsInvalid = "options-invalid", 400, "The options are not valid";
    /// Options are set for as many topics and patterns as there may be.
    OptionsTooMany = "options-too-many", 429, "Options are set for too many topics and patterns";
    /// There are as many topics as there may be, and the publish would begin another.
    TopicsTooMany = "topics-too-many", 429, "There are as many topics as there may be";
    /// The topics of a pattern have as much as they may.
    QuotaExceeded = "quota-exceeded", 507, "The quota is full";
    /// The disk is full; nothing was stored.
    StorageFull = "storage-full", 507, "The disk is full";
    /// A fault of the broker.
    Internal = "internal", 500, "The broker has a fault";
}

/// The media type of a problem's body.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The members of some problems beyond their code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProblemMembers {
    /// The gap: `from`, `to` and `reason`.
    pub gap: Option<Gap>,
    /// Where the topic's newest message stands.
    pub cursor: Option<Cursor>,
    /// When to come back.
    pub retry_after_ms: Option<u64>,
    /// The line of the batch, counted from 1.
    pub line: Option<usize>,
    /// The query parameter, header or member that is meant.
    pub parameter: Option<Cow<'static, str>>,
    /// The limit that was met: `violated-policies`.
    pub policy: Option<QuotaPolicy>,
}

/// One occurrence of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The code.
    pub code: Code,
    /// The occurrence, in words for people.
    pub detail: Option<Cow<'static, str>>,
    /// The rest, kept apart because most problems have none.
    pub members: Option<Box<ProblemMembers>>,
}

impl Problem {
    /// A problem that its code says all of.
    pub const fn new(code: Code) -> Self {
        Self { code, detail: None, members: None }
    }

    /// The same, with words.
    pub fn detailed(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: Some(detail.into()), members: None }
    }

    /// Messages are gone.
    pub fn gap(gap: Gap) -> Self {
        let mut problem = Self::new(Code::Gap);
        problem.members_mut().gap = Some(gap);
        problem
    }

    /// A parameter (or header, or member) whose value breaks a rule.
    pub fn parameter(
        code: Code,
        name: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut problem = Self::detailed(code, detail);
        problem.members_mut().parameter = Some(name.into());
        problem
    }

    /// The same, with the cursor of the topic's newest message.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Cursor) -> Self {
        self.members_mut().cursor = Some(cursor);
        self
    }

    /// The same, with the time after which to come back.
    #[must_use]
    pub fn with_retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.members_mut().retry_after_ms = Some(retry_after_ms);
        self
    }

    /// The same, about one line of a batch, counted from 1.
    #[must_use]
    pub fn with_line(mut self, line: usize) -> Self {
        self.members_mut().line = Some(line);
        self
    }

    /// The same, with the limit that was met.
    #[must_use]
    pub fn with_policy(mut self, policy: QuotaPolicy) -> Self {
        self.members_mut().policy = Some(policy);
        self
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.code.status()
    }

    /// When to come back, if the problem says so.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.members.as_ref().and_then(|members| members.retry_after_ms)
    }

    /// The members, made if there are none yet.
    pub fn members_mut(&mut self) -> &mut ProblemMembers {
        self.members.get_or_insert_default()
    }

    /// The body: `application/problem+json`.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.push(b'{');
        self.write_members(&mut out);
        out.push(b'}');
        out
    }

    /// The body's members, without its braces.
    pub(crate) fn write_members(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"status\":");
        json::number(self.status().into(), out);
        out.extend_from_slice(b",\"code\":\"");
        out.extend_from_slice(self.code.as_str().as_bytes());
        out.push(b'"');
        json::string_member("title", self.code.title(), out);
        if let Some(detail) = &self.detail {
            json::string_member("detail", detail, out);
        }
        let Some(members) = self.members.as_deref() else {
            return;
        };
        if let Some(gap) = &members.gap {
            out.push(b',');
            json::gap_members(gap, out);
        }
        if let Some(cursor) = members.cursor {
            json::cursor_member("cursor", cursor, out);
        }
        if let Some(retry_after_ms) = members.retry_after_ms {
            json::number_member("retry_after_ms", retry_after_ms, out);
        }
        if let Some(line) = members.line {
            json::number_member("line", line as u64, out);
        }
        if let Some(parameter) = &members.parameter {
            json::string_member("parameter", parameter, out);
        }
        if let Some(policy) = &members.policy {
            // draft-ietf-httpapi-ratelimit-headers-11 §5.1
            out.extend_from_slice(b",\"violated-policies\":[");
            json::string(&policy.name(), out);
            out.push(b']');
        }
    }
}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        Self::detailed(Code::TopicInvalid, error.to_string())
    }
}

impl From<FilterError> for Problem {
    fn from(error: FilterError) -> Self {
        let code = match error {
            FilterError::Topic(_) | FilterError::Wildcard => Code::TopicInvalid,
            FilterError::TooMany => Code::FilterTooLarge,
        };
        Self::detailed(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_in_kebab_case() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            let text = code.as_str();
            assert!(seen.insert(text), "{text} stands twice");
            let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(text.split('-').all(word), "{text}");
            assert!((400..600).contains(&code.status()), "{text}");
            assert!(!code.title().is_empty(), "{text}");
        }
    }

    #[test]
    fn a_body_has_its_members_in_order() {
        let cursor = Cursor { epoch: tailwire_model::Epoch::MAX, position: tailwire_model::Position(1) };
        let gap = Gap { from: cursor, to: cursor, reason: tailwire_model::GapReason::Unclean };
        let mut problem = Problem::gap(gap).with_cursor(cursor).with_retry_after_ms(1500).with_line(3);
        problem.detail = Some("a \"detail\"".into());
        let expect = r#"{"status":410,"code":"gap","title":"Messages after the cursor no longer exist","detail":"a \"detail\"","from":"vvvvvvvv-00000000001","to":"vvvvvvvv-00000000001","reason":"unclean","cursor":"vvvvvvvv-00000000001","retry_after_ms":1500,"line":3}"#;
        assert_eq!(std::str::from_utf8(&problem.body()), Ok(expect));
        let policy = QuotaPolicy { limit: "total", kind: "requests", quota: 1, window_s: Some(1) };
        let limited = Problem::new(Code::RateLimited).with_retry_after_ms(7).with_policy(policy);
        let expect = r#"{"status":429,"code":"rate-limited","title":"Too many requests","retry_after_ms":7,"violated-policies":["total-requests"]}"#;
        assert_eq!(std::str::from_utf8(&limited.body()), Ok(expect));
    }
}
