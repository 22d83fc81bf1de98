//! The lock of a log that is looked at, and the copy of its files that the engine gets instead of them.

#[cfg(unix)]
use std::{fs::Permissions, os::unix::fs::PermissionsExt};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
};

use super::{Findings, InspectError, bytes_below, io_error, legible};
use crate::sled_store::{
    maintenance::ballast,
    opening::engine::{lock, retry_locked},
};

/// The engine's own lock. It goes with the file.
pub(super) struct Lock {
    _db: File,
}

impl Lock {
    /// Locks the engine's file.
    pub(super) fn take(db: &Path) -> Result<Self, InspectError> {
        let file = File::open(db).map_err(|error| match (error.kind(), db.parent()) {
            (io::ErrorKind::NotFound, Some(dir)) => InspectError::Missing(dir.into()),
            _ => io_error(db)(error),
        })?;
        retry_locked(|| lock(&file)).map_err(|_| InspectError::Locked)?;
        Ok(Self { _db: file })
    }
}

/// A folder that is gone when this is dropped.
pub(super) struct Scratch {
    dir: PathBuf,
    bytes: u64,
}

impl Scratch {
    /// Copies a log into a folder of its own in `parent`, or else beside the log. Parts that can't be read are findings.
    pub(super) fn copy(
        log: &Path,
        parent: Option<&Path>,
        findings: &mut Findings,
    ) -> Result<Self, InspectError> {
        let log = log.canonicalize().map_err(io_error(log))?;
        let bytes = bytes_below(&log).map_err(io_error(&log))?;
        let folder = parent.or(log.parent()).unwrap_or(&log);
        let available = fs2::available_space(folder).map_err(io_error(folder))?;
        if available < bytes {
            return Err(InspectError::NoRoom { folder: folder.into(), needed: bytes, available });
        }
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        let dir = folder.join(format!("{name}.scratch-{}", process::id()));
        fs::create_dir(&dir).map_err(io_error(&dir))?;
        let scratch = Self { dir, bytes };
        copy_below(&log, &scratch.dir, findings)?;
        Ok(scratch)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bytes of the log's files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, folder = %self.dir.display(), "a copy could not be removed");
        }
    }
}

fn copy_below(from: &Path, to: &Path, findings: &mut Findings) -> Result<(), InspectError> {
    for entry in fs::read_dir(from).map_err(io_error(from))? {
        let entry = entry.map_err(io_error(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(io_error(&path))?.is_dir() {
            fs::create_dir(&target).map_err(io_error(&target))?;
            copy_below(&path, &target, findings)?;
        } else if entry.file_name() != ballast::NAME {
            let unreadable = legible::copy(&path, &target).map_err(io_error(&path))?;
            if unreadable > 0 {
                let name = entry.file_name();
                let what = format!("{unreadable} bytes of `{}` can't be read from the disk", name.display());
                findings.damage(None, what);
            }
            // The engine writes when it opens files, also where the log's own are only to be read.
            #[cfg(unix)]
            fs::set_permissions(&target, Permissions::from_mode(0o600)).map_err(io_error(&target))?;
        }
    }
    Ok(())
}
