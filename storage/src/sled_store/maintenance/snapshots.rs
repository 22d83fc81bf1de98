//! The engine's snapshots, `snap.…`: what it keeps to start faster. It refuses to start by one whose checksum is wrong, and
//! yet can do without any, by going through all of `db`. So one that is damaged is set aside before the engine sees it.
//! That hides nothing of `db`: what is damaged there is found as in a log that has no snapshot, and the watermark tells
//! what is missing at its end.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "snap.";
/// The prefix of a snapshot that was set aside.
const ASIDE: &str = "damaged.snap.";
/// The trailer of a snapshot: its length, and its CRC-32 (IEEE).
const TRAILER_BYTES: usize = 12;

/// All snapshots, if the newest of them, which the engine would take, is not as it was written. Mind those that are
/// unfinished first: the engine takes these for the newest, too.
pub(crate) fn damaged(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut snapshots = named(dir, PREFIX)?;
    snapshots.sort();
    match snapshots.last() {
        Some(newest) if !is_sound(&fs::read(newest)?) => Ok(snapshots),
        _ => Ok(Vec::new()),
    }
}

/// Sets them aside, in the place of any that were before. An older one than the newest says less than `db` by itself.
pub(crate) fn set_aside_damaged(dir: &Path) -> io::Result<()> {
    let damaged = damaged(dir)?;
    if damaged.is_empty() {
        return Ok(());
    }
    for before in named(dir, ASIDE)? {
        fs::remove_file(before)?;
    }
    for path in damaged {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = format!("{ASIDE}{}", name.trim_start_matches(PREFIX));
        fs::rename(&path, dir.join(&aside))?;
        tracing::warn!(
            aside,
            "the engine's snapshot was damaged; the log is opened without it, which takes longer. When it is stopped, \
             `tailwire log check` tells whether more is"
        );
    }
    Ok(())
}

/// The bytes of all of them.
pub(crate) fn bytes(dir: &Path) -> io::Result<u64> {
    named(dir, PREFIX)?.iter().map(|path| Ok(fs::metadata(path)?.len())).sum()
}

/// Removes all. Returns how many there were.
pub(crate) fn remove_all(dir: &Path) -> io::Result<usize> {
    let snapshots = named(dir, PREFIX)?;
    snapshots.iter().try_for_each(fs::remove_file)?;
    Ok(snapshots.len())
}

fn named(dir: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    let matching = entries.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    Ok(matching.map(fs::DirEntry::path).collect())
}

fn is_sound(file: &[u8]) -> bool {
    let content = file.len().checked_sub(TRAILER_BYTES).map(|length| &file[..length]);
    content
        .is_some_and(|content| !content.is_empty() && file.ends_with(&crc32fast::hash(content).to_le_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn any_bit_that_counts_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let config = sled::Config::new().path(dir.path());
        for _ in 0..2 {
            config.open().unwrap().insert("a", "b").unwrap();
        }
        let [path] = &named(dir.path(), PREFIX).unwrap()[..] else {
            panic!("the engine writes one snapshot")
        };
        let sound = fs::read(path).unwrap();
        assert!(is_sound(&sound), "as the engine sums it");
        assert!(!is_sound(&sound[..sound.len() - 1]) && !is_sound(&sound[..TRAILER_BYTES]) && !is_sound(&[]));
        for bit in 0..8 * sound.len() {
            let mut spoiled = sound.clone();
            spoiled[bit / 8] ^= 1 << (bit % 8);
            let is_length = (sound.len() - TRAILER_BYTES..sound.len() - 4).contains(&(bit / 8));
            assert_eq!(is_sound(&spoiled), is_length, "bit {bit}; the engine makes nothing of the length");
        }
    }
}
