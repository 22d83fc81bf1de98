//! The `[limits]` of the settings file: how much one address, one principal, or all together may do. Without it nothing is
//! limited but what [docs/LIMITS.md](../../../docs/LIMITS.md) says of all.

use std::num::NonZeroU32;

use tailwire_http::{ClientBounds, Limits};
use tailwire_model::Rate;
use toml::de::DeTable;

use super::{
    entry::FileEntry,
    source::{ConfigError, hint},
};

const SCOPES: [&str; 3] = ["limits.address", "limits.principal", "limits.total"];
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

/// Reads the table.
pub(super) fn parse(limits: &FileEntry<'_, '_>) -> Result<Limits, ConfigError> {
    let mut own = Limits::default();
    for (key, value) in table(limits, "a table with address, principal and total")? {
        let key_text = format!("limits.{}", key.get_ref());
        let entry = FileEntry { file: limits.file, key: key_text, span: key.span(), value };
        let bounds = match entry.key.as_str() {
            "limits.address" => &mut own.address,
            "limits.principal" => &mut own.principal,
            "limits.total" => &mut own.total,
            _ => return Err(entry.unknown(hint(&entry.key, &SCOPES))),
        };
        *bounds = parse_bounds(&entry)?;
    }
    Ok(own)
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
