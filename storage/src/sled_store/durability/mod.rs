//! How a commit becomes durable, and what tells at the next opening whether it did: the journal, the checkpoints of the
//! engine's file, the watermark beside the store, and the count of records.

use std::{fs::File, io};

pub(crate) mod checkpoint;
pub(crate) mod commit;
pub(crate) mod counting;
pub(crate) mod durable;
pub(crate) mod journal;
pub(crate) mod manifest;
pub(crate) mod tree;
pub(crate) mod watermark;

/// Writes at a place of a file, in one call where the system has one for that.
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, at);
    #[cfg(not(unix))]
    {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = file;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }
}
