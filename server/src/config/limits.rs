//! The `[limits]` of the settings file: how much one address, one principal, or all together may do. Without it nothing is
//! limited but what [docs/LIMITS.md](../../../docs/LIMITS.md) says of all.

use std::num::NonZeroU32;

use tailwire_http::{ClientBounds, Limits};
use tailwire_model::{Pattern, Quota, Rate, Term, limits::QUOTAS_MAX};
use toml::de::DeTable;

use super::{
    entry::FileEntry,
    source::{ConfigError, hint},
};

const KEYS: [&str; 4] = ["limits.address", "limits.principal", "limits.total", "limits.quota"];
/// The keys of each, in the order in which they are shown.
const BOUNDS: [&str; 7] = [
    "connections",
    "connects_per_second",
    "requests_per_second",
    "publishes_per_second",
    "bytes_per_second",
    "new_topics_per_minute",
    "subscriptions",
];

/// Reads the table: limits of clients, and quotas.
pub(super) fn parse(limits: &FileEntry<'_, '_>) -> Result<(Limits, Vec<Quota>), ConfigError> {
    let (mut own, mut quotas) = (Limits::default(), Vec::new());
    for (key, value) in table(limits, "a table with address, principal, total and quota")? {
        let key_text = format!("limits.{}", key.get_ref());
        let entry = FileEntry { file: limits.file, key: key_text, span: key.span(), value };
        let bounds = match entry.key.as_str() {
            "limits.address" => &mut own.address,
            "limits.principal" => &mut own.principal,
            "limits.total" => &mut own.total,
            "limits.quota" => {
                quotas = parse_quotas(&entry)?;
                continue;
            }
            _ => return Err(entry.unknown(hint(&entry.key, &KEYS))),
        };
        *bounds = parse_bounds(&entry)?;
    }
    Ok((own, quotas))
}

fn parse_quotas(list: &FileEntry<'_, '_>) -> Result<Vec<Quota>, ConfigError> {
    let wrong = || list.mistyped("a list of tables, each headed [[limits.quota]]");
    let entries = list.value.get_ref().as_array().ok_or_else(wrong)?;
    if entries.len() > QUOTAS_MAX {
        return Err(list.wrong(format!("can't stand more than {QUOTAS_MAX} times")));
    }
    let mut quotas: Vec<Quota> = Vec::with_capacity(entries.len());
    for value in entries {
        let entry = FileEntry { file: list.file, key: list.key.clone(), span: value.span(), value };
        let quota = parse_quota(&entry, value.get_ref().as_table().ok_or_else(wrong)?)?;
        if quotas.iter().any(|other| other.pattern == quota.pattern) {
            return Err(entry.wrong(format!("can't name `{}` twice", quota.pattern.as_str())));
        }
        quotas.push(quota);
    }
    Ok(quotas)
}

fn parse_quota(entry: &FileEntry<'_, '_>, table: &DeTable<'_>) -> Result<Quota, ConfigError> {
    let (mut pattern, mut bytes, mut topics) = (None, None, None);
    for (key, value) in table {
        let key_text = format!("{}.{}", entry.key, key.get_ref());
        let member = FileEntry { file: entry.file, key: key_text, span: key.span(), value };
        match &**key.get_ref() {
            "pattern" => pattern = Some(member.given(member.text()?).read(|text| parse_pattern(&text))?),
            "bytes" => bytes = Some(member.given(member.number()?).read(quota_bound)?),
            "topics" => topics = Some(member.given(member.number()?).read(quota_bound)?),
            name => return Err(member.unknown(hint(name, &["pattern", "bytes", "topics"]))),
        }
    }
    let pattern = pattern.ok_or_else(|| entry.wrong("needs a pattern: the topics that it is for"))?;
    if bytes.is_none() && topics.is_none() {
        return Err(entry.wrong("needs bytes or topics: how much those topics may have together"));
    }
    Ok(Quota { pattern, bytes, topics })
}

fn parse_pattern(text: &str) -> Result<Pattern, String> {
    match Term::parse(text) {
        Ok(Term::Pattern(pattern)) if !text.starts_with('$') => Ok(pattern),
        Ok(_) => Err(format!("can't be `{text}`: it is a pattern of clients' topics, as in tenants/acme/**")),
        Err(error) => Err(format!("can't be `{text}`: {error}")),
    }
}

/// A quota of nothing takes no messages.
fn quota_bound(number: i64) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("can't be {number}: it is a whole number from 0 on"))
}

fn parse_bounds(scope: &FileEntry<'_, '_>) -> Result<ClientBounds, ConfigError> {
    let mut bounds = ClientBounds::default();
    for (key, value) in table(scope, "a table of bounds")? {
        let key_text = format!("{}.{}", scope.key, key.get_ref());
        let entry = FileEntry { file: scope.file, key: key_text, span: key.span(), value };
        let number = || entry.given(entry.number()?).read(bound).map(Some);
        match &**key.get_ref() {
            "connections" => bounds.connections = number()?,
            "connects_per_second" => bounds.connects = number()?.map(Rate::per_second),
            "requests_per_second" => bounds.requests = number()?.map(Rate::per_second),
            "publishes_per_second" => bounds.publishes = number()?.map(Rate::per_second),
            "bytes_per_second" => bounds.bytes = number()?.map(Rate::per_second),
            "new_topics_per_minute" => bounds.new_topics = number()?.map(Rate::per_minute),
            "subscriptions" => bounds.subscriptions = number()?,
            name => return Err(entry.unknown(hint(name, &BOUNDS))),
        }
    }
    Ok(bounds)
}

fn bound(number: i64) -> Result<NonZeroU32, String> {
    let bound = u32::try_from(number).ok().and_then(NonZeroU32::new);
    bound.ok_or_else(|| {
        format!("can't be {number}: it is a whole number from 1 to {}; leave it out for no limit", u32::MAX)
    })
}

fn table<'a, 'i>(entry: &FileEntry<'a, 'i>, expect: &str) -> Result<&'a DeTable<'i>, ConfigError> {
    entry.value.get_ref().as_table().ok_or_else(|| entry.mistyped(expect))
}

/// The bounds that are set, by their keys.
pub(crate) fn bounds_set(bounds: &ClientBounds) -> impl Iterator<Item = (&'static str, u32)> {
    let rate = |rate: Option<Rate>| rate.map(Rate::quota);
    let set = [
        bounds.connections.map(NonZeroU32::get),
        rate(bounds.connects),
        rate(bounds.requests),
        rate(bounds.publishes),
        rate(bounds.bytes),
        rate(bounds.new_topics),
        bounds.subscriptions.map(NonZeroU32::get),
    ];
    BOUNDS.into_iter().zip(set).filter_map(|(name, set)| set.map(|set| (name, set)))
}
