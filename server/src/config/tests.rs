//! The source that wins, and the messages for wrong settings.

mod limits;
mod listeners;

use std::path::Path;

use tailwire_model::{Bound, Durability, Keep};

use super::*;

fn env(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|&(name, value)| (name.into(), value.into())))
}

fn settle_from(
    args: &ServeArgs,
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<ServeSettings, String> {
    let file = file.map(|text| FileText { path: Path::new("tailwire.toml"), text });
    settle(args, &env(variables), file).map_err(|error| error.to_string())
}

fn check_error(variables: &[(&str, &str)], file: &str, expect: &str) {
    let error = settle_from(&ServeArgs::default(), variables, Some(file)).unwrap_err();
    assert_eq!(error, expect);
}

const FILE: &str = "\
# A whole file.
listen = \":1\"
data = \"/from/file\"
log_level = \"error\"
log_format = \"json\"
allow_origins = [\"https://file.example\"]
log_max_bytes = 1_000
public_urls = [\"https://RT.file.example/\"]
insecure_public = true
websub_hub = \"https://hub.file.example/\"

[access]
leeway_seconds = 5

[threads]
front = 2
delivery = 3

[[options]]
topic = \"chat/**\"
durability = \"relaxed\"
max_age = 86_400
last = true

[[options]]
topic = \"chat/a\"
max_age = \"none\"
";
const VARIABLES_GIVEN: [(&str, &str); 8] = [
    ("TAILWIRE_LISTEN", ":2"),
    ("TAILWIRE_DATA", "/from/env"),
    ("TAILWIRE_LOG_LEVEL", "warn"),
    ("TAILWIRE_LOG_FORMAT", "text"),
    ("TAILWIRE_ALLOW_ORIGIN", "https://env.example, https://other.example"),
    ("TAILWIRE_LOG_MAX_BYTES", "2000"),
    ("TAILWIRE_PUBLIC_URL", "https://rt.env.example,https://two.example"),
    ("TAILWIRE_INSECURE_PUBLIC", "false"),
];

fn audience(settings: &ServeSettings) -> &str {
    settings.access.as_ref().unwrap().audience.as_deref().unwrap()
}

#[test]
fn defaults_stand_where_nobody_says_anything() {
    let settings = settle_from(&ServeArgs::default(), &[("PATH", "/bin")], None).unwrap();
    assert_eq!(settings.listen[0].address.to_string(), "127.0.0.1:8245");
    assert_eq!(settings.data, Path::new("./tailwire-data"));
    assert_eq!(settings.log_level, "info");
    assert_eq!(settings.log_format, LogFormat::Text);
    assert!(settings.allow_origins.is_empty());
    assert_eq!(settings.threads, Threads::default());
    assert_eq!((settings.log_max_bytes, settings.accepts_loss), (None, false));
    assert!(settings.options.is_empty());
    assert_eq!((settings.insecure_public, settings.access), (false, None));
}

#[test]
fn the_file_wins_over_defaults() {
    let settings = settle_from(&ServeArgs::default(), &[], Some(FILE)).unwrap();
    assert_eq!(settings.listen[0].address.to_string(), "0.0.0.0:1");
    assert_eq!(settings.data, Path::new("/from/file"));
    assert_eq!(settings.log_level, "error");
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.allow_origins, ["https://file.example"]);
    assert_eq!(settings.threads, Threads { front: 2, delivery: 3 });
    assert_eq!(settings.log_max_bytes, Some(1000));
    assert!(settings.insecure_public);
    assert_eq!(settings.websub_hub.as_deref(), Some("https://hub.file.example/"));
    assert_eq!(audience(&settings), "https://rt.file.example");
    let chat = Options {
        durability: Some(Durability::Relaxed),
        max_age_ms: Some(Bound(86_400_000)),
        keep: Some(Keep::Last),
        ..Options::default()
    };
    let unbounded = Options { max_age_ms: Some(Bound::NONE), ..Options::default() };
    let expect = [("chat/**", chat), ("chat/a", unbounded)];
    assert_eq!(settings.options, expect.map(|(term, options)| (Term::parse(term).unwrap(), options)));
}

#[test]
fn variables_win_over_the_file() {
    let settings = settle_from(&ServeArgs::default(), &VARIABLES_GIVEN, Some(FILE)).unwrap();
    assert_eq!(settings.listen[0].address.to_string(), "0.0.0.0:2");
    assert_eq!(settings.data, Path::new("/from/env"));
    assert_eq!(settings.log_level, "warn");
    assert_eq!(settings.log_format, LogFormat::Text);
    assert_eq!(settings.allow_origins, ["https://env.example", "https://other.example"]);
    assert_eq!(settings.log_max_bytes, Some(2000));
    assert!(!settings.insecure_public);
    assert_eq!(audience(&settings), "https://rt.env.example");
    assert_eq!(settings.threads, Threads { front: 2, delivery: 3 });
}

#[test]
fn flags_win_over_variables() {
    let args = ServeArgs {
        listen: vec!["3".to_owned()],
        data: Some("/from/flag".into()),
        log_level: Some("debug".to_owned()),
        log_format: Some("json".to_owned()),
        allow_origins: vec!["https://flag.example".to_owned()],
        public_urls: vec!["https://rt.flag.example".to_owned()],
        insecure_public: true,
        log_max_bytes: Some("3000".to_owned()),
        accept_loss: true,
        ..ServeArgs::default()
    };
    let settings = settle_from(&args, &VARIABLES_GIVEN, Some(FILE)).unwrap();
    assert_eq!(settings.listen[0].address.to_string(), "127.0.0.1:3");
    assert_eq!(settings.data, Path::new("/from/flag"));
    assert_eq!(settings.log_level, "debug");
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.allow_origins, ["https://flag.example"]);
    assert!(settings.insecure_public);
    assert_eq!(audience(&settings), "https://rt.flag.example");
    assert_eq!((settings.log_max_bytes, settings.accepts_loss), (Some(3000), true));
}

#[test]
fn a_source_may_say_one_thing_only() {
    let args = ServeArgs { listen: vec!["9".to_owned()], ..ServeArgs::default() };
    let settings =
        settle_from(&args, &[("TAILWIRE_LOG_LEVEL", "trace")], Some("data = 'd'\nlisten = 8")).unwrap();
    assert_eq!(settings.listen[0].address.to_string(), "127.0.0.1:9");
    assert_eq!(settings.data, Path::new("d"));
    assert_eq!(settings.log_level, "trace");
}

#[test]
fn a_port_in_the_file_needs_no_quotes() {
    let settings = settle_from(&ServeArgs::default(), &[], Some("listen = 8080")).unwrap();
    assert_eq!(settings.listen[0].address.to_string(), "127.0.0.1:8080");
}

#[test]
fn an_empty_variable_is_not_set() {
    let settings =
        settle_from(&ServeArgs::default(), &[("TAILWIRE_DATA", ""), ("TAILWIRE_X", "")], Some(FILE));
    assert_eq!(settings.unwrap().data, Path::new("/from/file"));
}

#[test]
fn the_flag_names_the_file_before_the_variable() {
    let args = ServeArgs { config: Some("a.toml".into()), ..ServeArgs::default() };
    let variables = env(&[("TAILWIRE_CONFIG", "b.toml")]);
    assert_eq!(file_path(&args, &variables), Some(("a.toml".into(), SettingSource::Flag("--config"))));
    let by_variable = Some(("b.toml".into(), SettingSource::Variable("TAILWIRE_CONFIG")));
    assert_eq!(file_path(&ServeArgs::default(), &variables), by_variable);
    assert_eq!(file_path(&ServeArgs::default(), &env(&[])), None);
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    check_error(
        &[("TAILWIRE_LISTN", "1")],
        "",
        "unknown variable TAILWIRE_LISTN; did you mean TAILWIRE_LISTEN?",
    );
    check_error(
        &[],
        "data = 'd'\n\nallow_origin = []",
        "tailwire.toml:3: unknown key `allow_origin`; did you mean allow_origins?",
    );
    check_error(
        &[],
        "[threads]\nfornt = 1",
        "tailwire.toml:2: unknown key `threads.fornt`; did you mean threads.front?",
    );
    check_error(
        &[],
        "zzz = 1",
        "tailwire.toml:1: unknown key `zzz`; known are listen, admin_listen, trusted_proxies, proxy_header, data, log_level, log_format, access_log, \
         allow_origins, log_max_bytes, max_topics, forget_topics_after, receive_max_bytes, public_urls, insecure_public, websub_hub, access, threads, options, \
         tls, cluster, limits",
    );
    check_error(
        &[],
        "[[options]]\ntopic = 'a'\nmax_aeg = 1",
        "tailwire.toml:3: unknown key `options.max_aeg`; did you mean max_age?",
    );
    check_error(
        &[],
        "[[options]]\nzzz = 1",
        "tailwire.toml:2: unknown key `options.zzz`; known are topic, durability, max_age, max_messages, \
         max_bytes, compact, last, title, description",
    );
}

#[test]
fn variables_that_kubernetes_sets_are_not_ours() {
    let variables = [
        ("TAILWIRE_SERVICE_HOST", "10.0.0.1"),
        ("TAILWIRE_SERVICE_PORT_HTTP", "8245"),
        ("TAILWIRE_PORT", "tcp://10.0.0.1:8245"),
        ("TAILWIRE_PORT_8245_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(settle_from(&ServeArgs::default(), &variables, None).is_ok());
    assert!(settle_from(&ServeArgs::default(), &[("TAILWIRE_PORT", "8245")], None).is_err());
}

#[test]
fn a_wrong_value_is_blamed_on_its_source() {
    let args = ServeArgs { listen: vec!["x:y".to_owned()], ..ServeArgs::default() };
    let error = settle_from(&args, &[], None).unwrap_err();
    assert!(error.starts_with("--listen can't be `x:y`"), "{error}");

    check_error(
        &[("TAILWIRE_LOG_LEVEL", "loud")],
        "",
        "TAILWIRE_LOG_LEVEL can't be `loud`; known are off, error, warn, info, debug, trace",
    );
    check_error(&[], "log_format = 'jsn'", "tailwire.toml:1: log_format can't be `jsn`; did you mean json?");
    check_error(&[], "\ndata = 5", "tailwire.toml:2: data is of type integer; it should be a string");
    check_error(
        &[],
        "threads.front = -1",
        "tailwire.toml:1: threads.front can't be -1: it is 0 (automatic) to 1024",
    );
    check_error(
        &[],
        "allow_origins = ['app.example']",
        "tailwire.toml:1: allow_origins can't be `app.example`: an origin begins with a scheme, as in \
         https://app.example",
    );
}

#[test]
fn a_bound_of_the_log_is_a_number_of_bytes() {
    for text in ["0", "-1", "1k", "1.5", "", " 1"] {
        let args = ServeArgs { log_max_bytes: Some(text.to_owned()), ..ServeArgs::default() };
        let error = settle_from(&args, &[], None).unwrap_err();
        assert_eq!(error, format!("--log-max-bytes can't be `{text}`: it is a number of bytes, from 1 on"));
    }
    check_error(
        &[],
        "log_max_bytes = '1'",
        "tailwire.toml:1: log_max_bytes is of type string; it should be a number",
    );
}

#[test]
fn wrong_options_are_blamed_on_their_line() {
    let whole = "has to be a whole number from 1 to 9007199254740991, or \"none\"";
    let check = |file: &str, expect: &str| check_error(&[], file, &format!("tailwire.toml:{expect}"));
    let table = "options is of type";
    let wanted = "it should be a list of tables, each headed [[options]]";
    check("options = 1", &format!("1: {table} integer; {wanted}"));
    check("[options]\ntopic = 'a'", &format!("1: {table} table; {wanted}"));
    check("\n[[options]]\nmax_age = 1", "2: options need a topic: the topic or pattern that they are for");
    check("[[options]]\ntopic = 1", "2: options.topic is of type integer; it should be a string");
    check(
        "[[options]]\ntopic = 'a*'",
        "2: options.topic can't be `a*`: a wildcard is a whole segment, and `**` is the last one",
    );
    check(
        "[[options]]\ntopic = '$sys/**'",
        "2: options.topic can't be `$sys/**`: the broker's own topics have no options",
    );
    for value in ["0", "-1", "1.5", "'24h'", "9007199254740992", "true", "[]"] {
        check(
            &format!("[[options]]\ntopic = 'a'\nmax_age = {value}"),
            &format!("3: options.max_age {whole}"),
        );
    }
    check(
        "[[options]]\ntopic = 'a'\ndurability = 'none'",
        "3: options.durability has to be `sync`, `relaxed` or `memory`",
    );
    check(
        "[[options]]\ntopic = 'a'\nlast = true\ncompact = true",
        "3: options.last has to be `false` where `compact` is `true`",
    );
    check(
        "[[options]]\ntopic = 'a'\n[[options]]\ntopic = 'b'\n[[options]]\ntopic = 'a'",
        "5: options can't name `a` twice",
    );
    let many: String = (0..=1000).map(|n| format!("[[options]]\ntopic = '{n}'\n")).collect();
    check(&many, "1: options can't stand more than 1000 times");
}

#[test]
fn a_file_that_is_not_toml_is_told_its_line() {
    let error = settle_from(&ServeArgs::default(), &[], Some("data = 'd'\nlisten = ")).unwrap_err();
    assert!(error.starts_with("tailwire.toml:2: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[cfg(unix)]
#[test]
fn a_folder_need_not_be_utf8_but_all_else_must() {
    use std::os::unix::ffi::OsStringExt;

    let odd = OsString::from_vec(vec![0xff]);
    let with = |name: &str| Environment::new([(name.into(), odd.clone())]);
    let settings = settle(&ServeArgs::default(), &with("TAILWIRE_DATA"), None).unwrap();
    assert_eq!(settings.data.as_os_str(), odd);
    let error = settle(&ServeArgs::default(), &with("TAILWIRE_LISTEN"), None).unwrap_err();
    assert_eq!(error.to_string(), "TAILWIRE_LISTEN is not UTF-8");
}

fn tls_from(args: &ServeArgs, file: &str) -> Result<Option<TlsSettings>, String> {
    settle_from(args, &[], Some(file)).map(|settings| settings.tls)
}

fn pair(cert: &str, key: &str) -> CertificateFiles {
    CertificateFiles { cert: cert.into(), key: key.into() }
}

#[test]
fn tls_is_set_by_the_file_and_its_first_pair_by_flags_too() {
    let file = "\
[tls]
cert = 'a.pem'
key = 'a-key.pem'
client_ca = 'ca.pem'
client_required = true
[[tls.certificate]]
cert = 'b.pem'
key = 'b-key.pem'
[tls.acme]
domains = ['RT.example.com']
contact = ['ops@example.com', 'mailto:b@example.com']
directory = 'https://ca.internal/directory'
directory_ca = 'root.pem'
accept_terms = true
";
    let acme = AcmeSettings {
        domains: vec!["rt.example.com".to_owned()],
        contact: vec!["mailto:ops@example.com".to_owned(), "mailto:b@example.com".to_owned()],
        directory: "https://ca.internal/directory".to_owned(),
        directory_ca: Some("root.pem".into()),
    };
    let mut expect = TlsSettings {
        certificates: vec![pair("a.pem", "a-key.pem"), pair("b.pem", "b-key.pem")],
        is_dev: false,
        client_ca: Some("ca.pem".into()),
        requires_client: true,
        acme: Some(acme),
    };
    assert_eq!(tls_from(&ServeArgs::default(), file), Ok(Some(expect.clone())));
    let args = ServeArgs {
        tls_cert: Some("c.pem".into()),
        tls_key: Some("c-key.pem".into()),
        ..ServeArgs::default()
    };
    expect.certificates[0] = pair("c.pem", "c-key.pem");
    assert_eq!(tls_from(&args, file), Ok(Some(expect)));
    assert_eq!(tls_from(&ServeArgs::default(), ""), Ok(None));
    let variables = [("TAILWIRE_TLS_CERT", "d.pem"), ("TAILWIRE_TLS_KEY", "d-key.pem")];
    let tls = settle_from(&ServeArgs::default(), &variables, None).unwrap().tls.unwrap();
    assert_eq!(tls.certificates, [pair("d.pem", "d-key.pem")]);
    let dev = ServeArgs { tls_dev: true, ..ServeArgs::default() };
    assert_eq!(tls_from(&dev, ""), Ok(Some(TlsSettings { is_dev: true, ..TlsSettings::default() })));
}

#[test]
fn tls_that_is_half_set_is_refused() {
    for (file, expect) in [
        ("[tls]", "tailwire.toml:1: tls needs cert and key, or [tls.acme]"),
        ("[tls]\ncert = 'a'", "tailwire.toml:2: tls.cert needs the private key beside it"),
        ("[tls]\nkey = 'a'", "tailwire.toml:2: tls.key needs the certificate beside it"),
        ("[tls]\ncert = ''\nkey = 'a'", "tailwire.toml:2: tls.cert can't be empty: it is a file"),
        ("[tls]\ncret = 'a'", "tailwire.toml:2: unknown key `tls.cret`; did you mean tls.cert?"),
        ("tls = true", "tailwire.toml:1: tls is of type boolean; it should be a table"),
        ("[[tls.certificate]]\ncert = 'a'", "tailwire.toml:1: tls.certificate needs cert and key, each time"),
        (
            "[tls]\ncert = 'a'\nkey = 'a'\nclient_required = true",
            "tailwire.toml:4: tls.client_required needs client_ca, by which clients are verified",
        ),
        (
            "[tls.acme]\naccept_terms = true",
            "tailwire.toml:1: tls.acme needs domains: the names that the certificate is for",
        ),
        (
            "[tls.acme]\ndomains = ['a.example']",
            "tailwire.toml:1: tls.acme needs accept_terms = true: read the authority's terms of service first",
        ),
        (
            "[tls.acme]\ndomains = ['*.a.example']",
            "tailwire.toml:2: tls.acme.domains can't name `*.a.example`: it is the name of a host, as in rt.example.com",
        ),
        (
            "[tls.acme]\ndirectory = 'letsencript'",
            "tailwire.toml:2: tls.acme.directory can't be `letsencript`: it is letsencrypt, letsencrypt-staging, or a URL that begins with https://",
        ),
    ] {
        assert_eq!(tls_from(&ServeArgs::default(), file).unwrap_err(), expect);
    }
    let dev = ServeArgs { tls_dev: true, ..ServeArgs::default() };
    assert_eq!(
        tls_from(&dev, "[tls]\ncert = 'a'\nkey = 'a'").unwrap_err(),
        "--tls-dev is for trying, without other certificates"
    );
    let alone = ServeArgs { tls_cert: Some("a".into()), ..ServeArgs::default() };
    assert_eq!(tls_from(&alone, "").unwrap_err(), "--tls-cert needs the private key beside it");
}

#[test]
fn a_loss_is_accepted_by_a_broker_that_is_alone() {
    let args = ServeArgs { accept_loss: true, cluster: Some("nats://a".to_owned()), ..ServeArgs::default() };
    let error = settle_from(&args, &[], None).unwrap_err();
    assert!(error.starts_with("--accept-loss has no meaning in a cluster"), "{error}");
}
