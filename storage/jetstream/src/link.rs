//! The connection to NATS: which server, with which credentials, and the few requests that are made of JetStream. Its
//! requests and answers are JSON, written and read here and in `stream`; consumers are not used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, Message, ReconnectToServer, ServerAddr, Subscriber,
    connection::State, rustls::ClientConfig,
};
use bytes::Bytes;
use serde_json::Value;
use tokio::{sync::Notify, time::timeout};

use crate::settings::{JetStreamSettings, NatsCredentials};

/// How long a server may take to accept a connection, and to answer a request.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
pub(crate) const REQUEST_WAIT: Duration = Duration::from_secs(2);
/// How often a server is asked for a sign of life; it is left after two that did not come.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long a message waits for room on its way to the connection. It is sent again anyway.
const ROOM_WAIT: Duration = Duration::from_millis(50);
/// Messages that wait for the task that takes them, which only moves them on: as many as come between two of its turns, and more
/// than are read at once.
const WAITING_MAX: usize = 1024;
/// What waits between this process and its connection.
const COMMANDS_MAX: usize = 512;
/// The pause before a server is tried again, where all were tried.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Why NATS did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No server took the connection.
    #[error("none of {0} takes a connection: {1}")]
    Connect(String, String),
    /// No answer in time.
    #[error("NATS did not answer in time")]
    Timeout,
    /// Nobody is there to answer.
    #[error("JetStream is not there: no server that has it, or none that leads, answers")]
    NoResponders,
    /// It refused.
    #[error("NATS refuses: {0}")]
    Refused(String),
    /// The answer is not what it should be.
    #[error("NATS gave an answer that is not understood")]
    Unreadable,
}

/// What is called how.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) stream: String,
    /// Where entries go.
    pub(crate) entries: String,
    /// Where the stream tells what it has ordered.
    pub(crate) live: String,
    /// Where nodes say how they are.
    pub(crate) nodes: String,
    /// The stream of checkpoints; where their parts go, and what makes them whole.
    pub(crate) checkpoints: String,
    pub(crate) parts: String,
    pub(crate) whole: String,
}

impl Names {
    pub(crate) fn of(stream: &str) -> Self {
        let name = |what: &str| format!("{stream}.{what}");
        Self {
            stream: stream.to_owned(),
            entries: name("entries"),
            live: name("live"),
            nodes: name("nodes"),
            checkpoints: format!("{stream}-checkpoints"),
            parts: name("checkpoints.part"),
            whole: name("checkpoints.whole"),
        }
    }
}

/// See the module. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client,
    pub(crate) names: Arc<Names>,
    pub(crate) signs: Arc<Signs>,
    /// How many servers are to hold the stream.
    pub(crate) replicas: usize,
}

/// What the connection tells by itself.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    /// It was made anew, and what was sent before may be lost.
    pub(crate) was_renewed: AtomicBool,
    pub(crate) renewed: Notify,
    /// Counts tries, so that each goes to another server.
    tries: AtomicUsize,
}

impl Link {
    pub(crate) async fn connect(settings: &JetStreamSettings) -> Result<Self, LinkError> {
        let servers = settings.servers.join(", ");
        let failed = |why: String| LinkError::Connect(servers.clone(), why);
        let addresses: Vec<ServerAddr> = settings
            .servers
            .iter()
            .map(|server| server.parse::<ServerAddr>().map_err(|error| failed(error.to_string())))
            .collect::<Result<_, _>>()?;
        let signs = Arc::new(Signs::default());
        let options = options(settings, &signs, settings.tls.clone());
        let client = options.connect(addresses).await.map_err(|error| failed(error.to_string()))?;
        let names = Arc::new(Names::of(&settings.stream));
        Ok(Self { client, names, signs, replicas: settings.replicas })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The server that it is connected to.
    pub(crate) fn server(&self) -> String {
        let info = self.client.server_info();
        if info.server_name.is_empty() { info.server_id } else { info.server_name }
    }

    /// Goes to another server.
    pub(crate) async fn leave_server(&self) {
        let _ = timeout(ROOM_WAIT, self.client.force_reconnect()).await;
    }

    pub(crate) fn inbox(&self) -> String {
        self.client.new_inbox()
    }

    pub(crate) async fn subscribe(&self, subject: &str) -> Result<Subscriber, LinkError> {
        let subscribed = timeout(REQUEST_WAIT, self.client.subscribe(subject.to_owned())).await;
        subscribed.map_err(|_| LinkError::Timeout)?.map_err(|error| LinkError::Refused(error.to_string()))
    }

    /// Sends a message, if there is room for it now.
    pub(crate) async fn send(&self, subject: &str, reply: Option<&str>, payload: Bytes) -> bool {
        let sent = async {
            match reply {
                Some(reply) => {
                    self.client.publish_with_reply(subject.to_owned(), reply.to_owned(), payload).await
                }
                None => self.client.publish(subject.to_owned(), payload).await,
            }
        };
        matches!(timeout(ROOM_WAIT, sent).await, Ok(Ok(())))
    }

    /// Publishes a first message: it counts only if the stream's newest one is this.
    pub(crate) async fn publish_after(&self, last: u64, payload: Bytes) -> Result<Value, LinkError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Sequence", last.to_string().as_str());
        let request = async_nats::Request::new().payload(payload).headers(headers);
        read_answer(&self.request(&self.names.entries, request).await?)
    }

    /// Sends a message, and waits for what JetStream answers: that its stream has it, or what was asked.
    pub(crate) async fn publish(&self, subject: &str, payload: Bytes) -> Result<Value, LinkError> {
        read_answer(&self.request(subject, async_nats::Request::new().payload(payload)).await?)
    }

    /// Asks for one message of a stream, which answers without one where it has none such.
    pub(crate) async fn get(&self, stream: &str, request: Value) -> Result<Option<Message>, LinkError> {
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let request = async_nats::Request::new().payload(request.to_string().into());
        let answer = self.request(&subject, request).await?;
        Ok(answer.status.is_none().then_some(answer))
    }

    /// Asks JetStream of the log's stream.
    pub(crate) async fn ask(&self, what: &str, request: Value) -> Result<Value, LinkError> {
        self.ask_of(what, &self.names.stream, request).await
    }

    /// Asks JetStream of a stream.
    pub(crate) async fn ask_of(&self, what: &str, stream: &str, request: Value) -> Result<Value, LinkError> {
        let subject = format!("$JS.API.{what}.{stream}");
        let payload = if request.is_null() { Bytes::new() } else { request.to_string().into() };
        self.publish(&subject, payload).await
    }

    async fn request(&self, subject: &str, request: async_nats::Request) -> Result<Message, LinkError> {
        let answer = self.client.send_request(subject.to_owned(), request.timeout(Some(REQUEST_WAIT))).await;
        answer.map_err(|error| match error.kind() {
            async_nats::RequestErrorKind::TimedOut => LinkError::Timeout,
            async_nats::RequestErrorKind::NoResponders => LinkError::NoResponders,
            _ => LinkError::Refused(error.to_string()),
        })
    }
}

fn read_answer(answer: &Message) -> Result<Value, LinkError> {
    let answer: Value = serde_json::from_slice(&answer.payload).map_err(|_| LinkError::Unreadable)?;
    match answer.get("error") {
        None => Ok(answer),
        Some(error) => {
            let text = error["description"].as_str().unwrap_or("without a reason");
            Err(LinkError::Refused(format!("{text} ({})", error["err_code"])))
        }
    }
}

fn options(settings: &JetStreamSettings, signs: &Arc<Signs>, tls: Option<ClientConfig>) -> ConnectOptions {
    let (renewing, trying) = (signs.clone(), signs.clone());
    let options = ConnectOptions::new()
        .name(format!("tailwire {}", settings.node))
        .connection_timeout(CONNECT_WAIT)
        .ping_interval(PING_EVERY)
        .request_timeout(Some(REQUEST_WAIT))
        .subscription_capacity(WAITING_MAX)
        .client_capacity(COMMANDS_MAX)
        .event_callback(move |event| {
            if event == Event::Connected {
                renewing.was_renewed.store(true, Ordering::Release);
                renewing.renewed.notify_one();
            }
            async {}
        })
        .reconnect_to_server_callback(move |servers, _| {
            let number = trying.tries.fetch_add(1, Ordering::Relaxed);
            let next = number.checked_rem(servers.len()).and_then(|at| servers.get(at));
            let delay = next.map(|next| if next.failed_attempts > 0 { RETRY_PAUSE } else { Duration::ZERO });
            let next = next.map(|next| ReconnectToServer { addr: next.addr.clone(), delay });
            async { next }
        });
    let options = match &settings.credentials {
        NatsCredentials::None => options,
        NatsCredentials::User { name, password } => options.user_and_password(name.clone(), password.clone()),
        NatsCredentials::Token(token) => options.token(token.clone()),
    };
    match tls {
        Some(config) => options.tls_client_config(config).require_tls(true),
        None => options,
    }
}
