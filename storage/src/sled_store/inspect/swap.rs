//! Putting a repaired log into the place of the damaged one.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Puts `built` into the place of `log`, which becomes `kept`; all three are in one folder. Where the system can exchange
/// names, one of the two logs stands in the place at every moment.
///
/// # Errors
/// The folders can't be renamed; then the damaged log is in its place.
pub fn swap(log: &Path, built: &Path, kept: &Path) -> io::Result<()> {
    if exchange(log, built).is_ok() {
        fs::rename(built, kept)?;
    } else {
        fs::rename(log, kept)?;
        if let Err(error) = fs::rename(built, log) {
            fs::rename(kept, log)?;
            return Err(error);
        }
    }
    match log.parent() {
        Some(parent) if cfg!(unix) => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(Into::into)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_is_where_it_belongs() {
        let dir = tempfile::tempdir().unwrap();
        let [log, built, kept] = ["log", "built", "kept"].map(|name| dir.path().join(name));
        for folder in [&log, &built] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("name"), folder.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        swap(&log, &built, &kept).unwrap();
        assert_eq!(fs::read_to_string(log.join("name")).unwrap(), "built");
        assert_eq!(fs::read_to_string(kept.join("name")).unwrap(), "log");
        assert!(!built.exists());
    }
}
