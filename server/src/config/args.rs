//! The flags of `tailwire serve`, with their help.

use std::path::PathBuf;

use clap::Args;

/// Notes below the help of `tailwire serve`.
pub(crate) const SERVE_NOTES: &str = "\
A flag wins over its variable, a variable over the file, and the file over the default. The file is TOML:

    listen = \"127.0.0.1:8245\"      # or a list: [\"127.0.0.1:8245\", { address = \":8443\", read_only = true }]
                            # also tls, proxy_protocol, and mode of a unix:PATH
    admin_listen = \"127.0.0.1:8246\"   # metrics and health; default: no metrics
    trusted_proxies = [\"10.0.0.0/8\"]  # believed on the addresses of their clients; \"unix\" is the Unix socket
    proxy_header = \"x-forwarded-for\"  # where they say it; or forwarded
    data = \"./tailwire-data\"
    log_level = \"info\"
    log_format = \"text\"     # or json: one object a line
    access_log = false      # a line for each request
    allow_origins = [\"https://app.example\"]
    public_urls = [\"https://rt.example.com\"]   # hosts that are answered, own origins, default audience of tokens
    insecure_public = false # listen for others without [access]
    websub_hub = \"https://hub.example.com/\"   # what feeds name as their hub; it hears of messages from others
    threads.front = 0       # accept, parse, publish, answer; 0 is automatic
    threads.delivery = 0    # write to streams; 0 is automatic
    log_max_bytes = 10_000_000_000
    max_topics = 250_000    # more are refused, 429 topics-too-many; see docs/LIMITS.md for all bounds
    forget_topics_after = \"1d\"   # one that holds nothing, after its newest message; or 90s, 12h, \"never\"
    receive_max_bytes = 67_108_864   # memory for what clients have begun to send

    [[options]]             # as often as there are topics and patterns to tell apart
    topic = \"chat/**\"
    durability = \"sync\"     # or relaxed, memory
    max_age = 86400         # seconds; max_messages, max_bytes: \"none\" is no bound
    compact = true          # or last = true
    title = \"Chat\"          # of its feeds; also description

    [access]                # who may do what; without it the broker listens on loopback only
    audience = \"https://rt.example.com\"   # what tokens name in `aud`; default: the first of public_urls
    leeway_seconds = 30     # how far clocks may be apart, 0 to 600
    cookie = \"__Host-tailwire\"   # \"\" is off

    [[access.issuer]]       # who signs tokens
    issuer = \"https://app.example.com\"   # the claim `iss`, to the letter
    secrets = [\"file:/run/secrets/a\"]    # or keys, in PEM, or jwks = \"https://…\"; each inline, file:PATH or env:NAME
    algorithms = [\"HS256\"]              # default: the usual one of each key
    grants = \"tailwire\"   # the claim with grants; \"\" is none
    subject = \"sub\"       # the claim that names the holder

    [[access.rule]]         # grants, summed; as often as you like
    who = \"any\"           # anonymous, any, issuer:ISSUER or key:ID
    subscribe = [\"users/{sub}/**\"]      # patterns with claims; also publish, manage, presence

    [tls]                   # then all listeners speak TLS
    cert = \"cert.pem\"       # the chain; read again when it changes, and at SIGHUP
    key = \"key.pem\"
    client_ca = \"ca.pem\"    # verifies the certificates of clients; client_required = true
    [[tls.certificate]]     # more, by the names that they are for
    cert = \"other.pem\"
    key = \"other-key.pem\"
    [tls.acme]              # a certificate of the broker's own, by TLS-ALPN-01 on port 443
    domains = [\"rt.example.com\"]
    contact = [\"ops@example.com\"]
    directory = \"letsencrypt\" # or letsencrypt-staging, or a URL with directory_ca = \"root.pem\"
    accept_terms = true     # of the authority's service

    [cluster]               # a node of many, with one order on NATS JetStream
    servers = [\"nats://nats-1:4222\", \"nats://nats-2:4222\", \"nats://nats-3:4222\"]
    monitors = [\"http://nats-1:8222\", \"http://nats-2:8222\", \"http://nats-3:8222\"]   # asked whether they sync
    stream = \"TAILWIRE\"
    replicas = 3            # or 5; 1 is a trial
    checkpoint_bytes = 268_435_456   # of the stream before another checkpoint is made, at least
    node = \"a\"              # default: the machine's name and the port
    user = \"tailwire\"       # with password = \"file:/run/secrets/nats\"; or token
    ca = \"ca.pem\"           # then all is TLS; cert and key are the node's own

    [limits.address]        # of each; also [limits.principal], and [limits.total] of all together; default: none
    connections = 200       # open at a time
    connects_per_second = 50
    requests_per_second = 500   # lines of WebSockets, too
    publishes_per_second = 200
    bytes_per_second = 1_000_000
    new_topics_per_minute = 100
    subscriptions = 500     # streams, subscriptions of WebSockets, polls that wait
    [[limits.quota]]        # what all topics of a pattern may have together: 507 quota-exceeded beyond
    pattern = \"tenants/acme/**\"
    bytes = 1_000_000_000
    topics = 1_000

SIGTERM, SIGQUIT or Ctrl+C drains and stops; a second one stops at once. SIGHUP reloads what can be reloaded.";

/// Arguments of `tailwire serve`. Text here, so that an error can name the source of its value.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen: HOST:PORT, a PORT of 127.0.0.1, :PORT for every interface, unix:PATH, or systemd:NUMBER for a
    /// socket that is passed; repeat it for more
    /// [env: TAILWIRE_LISTEN, separated by commas] [default: 127.0.0.1:8245]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<String>,

    /// Where metrics and health are asked for, by those who look after the broker; in clear text, and without credentials
    /// [env: TAILWIRE_ADMIN_LISTEN] [default: metrics nowhere, health on every listener]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin_listen: Option<String>,

    /// A proxy that is believed on whose requests it passes on, by its address or network, as in 10.0.0.0/8, or `unix` for
    /// the Unix socket; repeat it for more
    /// [env: TAILWIRE_TRUSTED_PROXY, separated by commas] [default: none]
    #[arg(long = "trusted-proxy", value_name = "NETWORK")]
    pub(crate) trusted_proxies: Vec<String>,

    /// The folder that holds the messages; it is made if there is none
    /// [env: TAILWIRE_DATA] [default: ./tailwire-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Level of the log on stderr: off, error, warn, info, debug or trace, also by part: info,tailwire_http=debug. A level
    /// alone is for the broker's own parts; others, such as h2, log errors unless they are named
    /// [env: TAILWIRE_LOG_LEVEL] [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    /// Format of the log on stderr: text, or json with one object a line
    /// [env: TAILWIRE_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,

    /// Log each request: the client's address, method, path, status, who it was, and how long it took
    /// [env: TAILWIRE_ACCESS_LOG]
    #[arg(long)]
    pub(crate) access_log: bool,

    /// An origin whose pages may use the broker from a browser; repeat it for more
    /// [env: TAILWIRE_ALLOW_ORIGIN, separated by commas] [default: only the broker's own]
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub(crate) allow_origins: Vec<String>,

    /// The URL by which clients reach the broker: its host is answered, its origin is the broker's own, and it is what
    /// tokens are for unless the audience is set; repeat it for more
    /// [env: TAILWIRE_PUBLIC_URL, separated by commas] [default: none]
    #[arg(long = "public-url", value_name = "URL")]
    pub(crate) public_urls: Vec<String>,

    /// Listen where others can reach it without `[access]`: then everybody may read, write and delete
    /// [env: TAILWIRE_INSECURE_PUBLIC]
    #[arg(long)]
    pub(crate) insecure_public: bool,

    /// How many bytes the messages of all topics together may take; beyond, the oldest go
    /// [env: TAILWIRE_LOG_MAX_BYTES] [default: no bound]
    #[arg(long, value_name = "BYTES")]
    pub(crate) log_max_bytes: Option<String>,

    /// How many topics there may be; a publish that would begin another is refused
    /// [env: TAILWIRE_MAX_TOPICS] [default: 250000]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_topics: Option<String>,

    /// How long a topic that holds nothing is known after its newest message: 90s, 30m, 12h, 1d or never
    /// [env: TAILWIRE_FORGET_TOPICS_AFTER] [default: 1d]
    #[arg(long, value_name = "TIME")]
    pub(crate) forget_topics_after: Option<String>,

    /// Memory for what all clients together have begun to send and not yet sent whole, at least 1 MiB
    /// [env: TAILWIRE_RECEIVE_MAX_BYTES] [default: 64 MiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) receive_max_bytes: Option<String>,

    /// The certificate chain that clients are shown, as a PEM file, the own certificate first; then all is TLS
    /// [env: TAILWIRE_TLS_CERT] [default: no TLS]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of that certificate, as a PEM file
    /// [env: TAILWIRE_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Try TLS on this machine, with a self-signed certificate for localhost that is made in the data folder. It has no
    /// variable and no key
    #[arg(long)]
    pub(crate) tls_dev: bool,

    /// Open a log that has less than what was acknowledged, as after a disk has lost its end; clients get the loss
    /// as a gap. For one start, and no setting: it has no variable and no key
    #[arg(long)]
    pub(crate) accept_loss: bool,

    /// Be a node of a cluster: URLs of the NATS servers whose stream is the order, separated by commas
    /// [env: TAILWIRE_CLUSTER] [default: alone]
    #[arg(long, value_name = "URLS")]
    pub(crate) cluster: Option<String>,

    /// URLs of the monitors of those servers, separated by commas: each is asked whether it syncs what it acknowledges
    /// [env: TAILWIRE_CLUSTER_MONITORS]
    #[arg(long, value_name = "URLS")]
    pub(crate) cluster_monitors: Option<String>,

    /// How many NATS servers hold the stream: 3 or 5, or 1 for a trial [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<String>,

    /// Make a checkpoint once the stream has so many bytes beyond the newest one, and as many as that takes [default: 268435456]
    #[arg(long, value_name = "BYTES")]
    pub(crate) checkpoint_bytes: Option<String>,

    /// The name of this node in its cluster
    /// [env: TAILWIRE_NODE] [default: the machine's name and the port]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// A TOML file with these settings
    /// [env: TAILWIRE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
