//! Small files that are there whole or not at all.

use std::{fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

/// Writes a file beside its place, makes it durable, and moves it there.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
