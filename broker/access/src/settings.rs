//! A configuration that was checked, with its keys read. Whatever is wrong in it is found here, and not at a request.

use tailwire_model::limits::ACCESS_RULES_MAX;

use crate::{
    config::{AccessConfig, Source, TrustedHeaderConfig},
    error::AccessError,
    hook::Hook,
    names::{header_name, is_token},
    rules::{AccessRule, claim_names},
    token::{TokenRules, issuer::Issuer},
};

/// More would hide a clock that is wrong.
const LEEWAY_SECONDS_MAX: u64 = 600;

pub(crate) struct AccessSettings {
    pub(crate) tokens: TokenRules,
    pub(crate) rules: Vec<AccessRule>,
    pub(crate) cookie: Option<Box<str>>,
    pub(crate) trusted_header: Option<TrustedHeaderConfig>,
    pub(crate) hook: Option<Hook>,
}

impl AccessSettings {
    pub(crate) fn new(
        config: &AccessConfig,
        read: &mut dyn FnMut(&Source) -> Result<Vec<u8>, String>,
    ) -> Result<Self, AccessError> {
        let fail = |key: &str, problem: &str| AccessError::at(format!("access.{key}"), problem);
        if config.leeway_seconds > LEEWAY_SECONDS_MAX {
            return Err(fail("leeway_seconds", "it is at most 600: set the clocks"));
        }
        if !config.cookie.is_empty() && !is_token(&config.cookie) {
            return Err(fail("cookie", "it is no name of a cookie"));
        }
        let issuers = issuers(config, read)?;
        let audience = match &config.audience {
            Some(audience) if !audience.is_empty() => audience.clone(),
            _ if issuers.is_empty() => String::new(),
            _ => return Err(fail("audience", "tokens name it in `aud`: set it, or `public_urls`")),
        };
        let rules = rules(config)?;
        let trusted_header = config.trusted_header.as_ref().map(trusted_header).transpose()?;
        let hook = config.hook.as_ref().map(|hook| Hook::new(hook, read)).transpose()?;
        let claim_names = claim_names(&rules).into_iter().map(Into::into).collect();
        let leeway_ms = config.leeway_seconds * 1000;
        let tokens = TokenRules { issuers, audience, leeway_ms, claim_names };
        let cookie = (!config.cookie.is_empty()).then(|| config.cookie.as_str().into());
        Ok(Self { tokens, rules, cookie, trusted_header, hook })
    }
}

fn issuers(
    config: &AccessConfig,
    read: &mut dyn FnMut(&Source) -> Result<Vec<u8>, String>,
) -> Result<Vec<Issuer>, AccessError> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for (index, issuer) in config.issuer.iter().enumerate() {
        let at = format!("access.issuer[{index}]");
        if issuers.iter().any(|other| *other.name == *issuer.issuer) {
            return Err(AccessError::at(at, format!("the issuer `{}` stands there twice", issuer.issuer)));
        }
        issuers.push(Issuer::new(&at, issuer, read)?);
    }
    Ok(issuers)
}

fn rules(config: &AccessConfig) -> Result<Vec<AccessRule>, AccessError> {
    if config.rule.len() > ACCESS_RULES_MAX {
        return Err(AccessError::at("access.rule".to_owned(), "there are at most 1,000 rules"));
    }
    let issuers: Vec<&str> = config.issuer.iter().map(|issuer| issuer.issuer.as_str()).collect();
    let rules = config.rule.iter().enumerate();
    rules.map(|(index, rule)| AccessRule::new(&format!("access.rule[{index}]"), rule, &issuers)).collect()
}

fn trusted_header(config: &TrustedHeaderConfig) -> Result<TrustedHeaderConfig, AccessError> {
    let fail = |key: &str, problem| AccessError::at(format!("access.trusted_header.{key}"), problem);
    let name = header_name(&config.name).map_err(|problem| fail("name", problem))?.into();
    if config.from.is_empty() {
        return Err(fail("from", "nobody is believed: name the addresses of the proxy, as 10.0.0.0/8"));
    }
    Ok(TrustedHeaderConfig { name, from: config.from.clone() })
}
