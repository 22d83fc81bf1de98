//! Changes of trees as bytes: for the journal, and for what a commit changes beside its messages.
//!
//! ```text
//! tree: u8  is it removed: u8  length of the key  key  [length of the value  value]
//! ```
//! Lengths are varints. A tree is named by its number.

use crate::codec::{ByteReader, Damage, put_varint};

/// One change of a tree; without a value the key is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeChange<'a> {
    pub(crate) tree: u8,
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
}

/// Appends a change.
pub(crate) fn put_change(out: &mut Vec<u8>, change: TreeChange<'_>) {
    out.extend_from_slice(&[change.tree, u8::from(change.value.is_none())]);
    for part in [Some(change.key), change.value].into_iter().flatten() {
        put_varint(out, part.len() as u64);
        out.extend_from_slice(part);
    }
}

/// Changes, in the order in which they were appended.
pub(crate) fn take_changes(bytes: &[u8]) -> impl Iterator<Item = Result<TreeChange<'_>, Damage>> {
    let mut reader = ByteReader(bytes);
    std::iter::from_fn(move || (!reader.0.is_empty()).then(|| take_change(&mut reader)))
}

fn take_change<'a>(reader: &mut ByteReader<'a>) -> Result<TreeChange<'a>, Damage> {
    let [tree, is_removed] = reader.array()?;
    let mut part = || {
        let length = reader.varint()?;
        reader.bytes(usize::try_from(length).unwrap_or(usize::MAX))
    };
    Ok(TreeChange { tree, key: part()?, value: if is_removed == 0 { Some(part()?) } else { None } })
}
