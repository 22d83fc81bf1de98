//! Where to listen, and whose word on clients counts.

use super::*;

#[test]
fn listeners_have_settings_of_their_own() {
    let listen = |text: &str| {
        let settings = settle_from(&ServeArgs::default(), &[], Some(text));
        settings.map(|settings| settings.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    for (text, expect) in [
        ("listen = 80", "\"127.0.0.1:80\""),
        ("listen = [80, ':81']", "\"127.0.0.1:80\" \"0.0.0.0:81\""),
        (
            "listen = [':80', { address = 'unix:/run/a', mode = '600' }]",
            "\"0.0.0.0:80\" { address = \"unix:/run/a\", mode = \"0600\" }",
        ),
        (
            "[[listen]]\naddress = 80\nread_only = true\ntls = false\n[[listen]]\naddress = 'systemd'\nproxy_protocol = true",
            "{ address = \"127.0.0.1:80\", tls = false, read_only = true } { address = \"systemd:0\", proxy_protocol = true }",
        ),
    ] {
        assert_eq!(listen(text).as_deref(), Ok(expect), "{text}");
    }
    for (text, expect) in [
        ("listen = []", "tailwire.toml:1: listen can't be empty: it is at least one address"),
        ("listen = ['a:b']", "tailwire.toml:1: listen can't be `a:b`"),
        ("listen = [{}]", "tailwire.toml:1: listen needs an address, each time"),
        (
            "[[listen]]\naddress = 80\nmode = '600'",
            "tailwire.toml:3: listen.mode is for Unix sockets: others have no file",
        ),
        ("[[listen]]\naddress = 'unix:a'\nmode = '999'", "tailwire.toml:3: listen.mode can't be `999`"),
        ("[[listen]]\naddress = 'unix:a'\ntls = true", "tailwire.toml:3: listen.tls can't be true"),
        (
            "[[listen]]\naddress = 80\nreadonly = true",
            "tailwire.toml:3: unknown key `listen.readonly`; did you mean listen.read_only?",
        ),
    ] {
        let error = listen(text).unwrap_err();
        assert!(error.starts_with(expect), "{text}: {error}");
    }
}

#[test]
fn operations_and_proxies_come_from_every_source() {
    let file = "admin_listen = 8246\ntrusted_proxies = ['10.0.0.0/8', 'unix']\nproxy_header = 'forwarded'";
    let settings = settle_from(&ServeArgs::default(), &[], Some(file)).unwrap();
    assert_eq!(settings.admin_listen.unwrap().to_string(), "127.0.0.1:8246");
    assert_eq!(proxies_written(&settings.trusted_proxies), ["10.0.0.0/8", "unix"]);
    assert_eq!(proxy_header_written(settings.trusted_proxies.header), "forwarded");
    let variables = [
        ("TAILWIRE_ADMIN_LISTEN", ":1"),
        ("TAILWIRE_TRUSTED_PROXY", "::1, 10.1.1.1"),
        ("TAILWIRE_LISTEN", "1,unix:/a"),
    ];
    let settings = settle_from(&ServeArgs::default(), &variables, Some(file)).unwrap();
    assert_eq!(settings.admin_listen.unwrap().to_string(), "0.0.0.0:1");
    assert_eq!(proxies_written(&settings.trusted_proxies), ["::1/128", "10.1.1.1/32"]);
    assert_eq!(settings.listen.len(), 2);
    let args = ServeArgs {
        admin_listen: Some("2".to_owned()),
        trusted_proxies: vec!["unix".to_owned()],
        ..ServeArgs::default()
    };
    let settings = settle_from(&args, &variables, Some(file)).unwrap();
    assert_eq!(settings.admin_listen.unwrap().to_string(), "127.0.0.1:2");
    assert_eq!(proxies_written(&settings.trusted_proxies), ["unix"]);
    check_error(
        &[("TAILWIRE_TRUSTED_PROXY", "all")],
        "",
        "TAILWIRE_TRUSTED_PROXY can't be so: `all` is no address and no network such as 10.0.0.0/8 or fd00::/8, and not unix",
    );
}
