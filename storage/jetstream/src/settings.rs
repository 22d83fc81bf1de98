//! What an operator says of the stream.

use async_nats::rustls::ClientConfig;

/// See the module.
#[derive(Debug, Clone)]
pub struct JetStreamSettings {
    /// URLs of NATS servers: `nats://host:4222`, or `tls://…`.
    pub servers: Vec<String>,
    /// The name of the stream.
    pub stream: String,
    /// How many servers hold it.
    pub replicas: usize,
    /// How nodes say who they are.
    pub credentials: NatsCredentials,
    /// Trust and client certificates, where the servers speak TLS.
    pub tls: Option<ClientConfig>,
    /// How many topics there may be; it holds for what this node publishes.
    pub topics_max: u64,
    /// The name of this node.
    pub node: String,
}

/// See [`JetStreamSettings::credentials`].
#[derive(Clone, Default, PartialEq, Eq)]
pub enum NatsCredentials {
    /// They don't.
    #[default]
    None,
    /// By name and password.
    User {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// By a token.
    Token(String),
}

impl std::fmt::Debug for NatsCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::User { .. } => "User",
            Self::Token(_) => "Token",
        })
    }
}
