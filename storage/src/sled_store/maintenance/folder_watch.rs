//! The folder watch: whether the files of an open log still stand where they were opened. A folder that is deleted,
//! emptied, moved or replaced leaves an open log writing to files that no next opening will find, and nothing of that
//! fails by itself.

use std::{
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

use crate::sled_store::durability::{journal::Journal, watermark::Watermark};

/// How often that is looked at.
pub(crate) const LOOK_EVERY_MS: u64 = 500;

/// The open folder and files of a log, and where they should stand.
pub(crate) struct FolderWatch {
    /// Open: a deleted file keeps its number as long, and no other file is given that.
    files: Vec<(PathBuf, File)>,
    /// Keeps others from beginning a log in the same folder, also if it was emptied.
    _lock: Option<File>,
}

impl FolderWatch {
    /// Of the log in `dir`, which was just opened.
    ///
    /// # Errors
    /// A file that was just written can't be opened.
    pub(crate) fn of(dir: &Path, lock: Option<File>) -> io::Result<Self> {
        let mut files = Vec::new();
        for path in [dir.into(), dir.join("db"), Watermark::path(dir), Journal::path(dir)] {
            match File::open(&path) {
                Ok(file) => files.push((path, file)),
                // A full disk has no room for a journal; and not every system opens a folder.
                Err(_) if path.ends_with(Journal::path(Path::new(""))) || !cfg!(unix) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { files, _lock: lock })
    }

    /// The first file that was replaced or removed, if any, in words.
    pub(crate) fn look(&self) -> Option<String> {
        self.files.iter().find_map(|(path, file)| {
            use io::ErrorKind::{NotADirectory, NotFound};
            let path_shown = path.display();
            match (fs::metadata(path), file.metadata()) {
                (Ok(there), Ok(open)) if is_same(&there, &open) => None,
                (Ok(_), Ok(_)) => Some(format!("{path_shown} was replaced while the log was open")),
                (Err(error), _) if matches!(error.kind(), NotFound | NotADirectory) => {
                    Some(format!("{path_shown} was deleted or moved away while the log was open"))
                }
                // That a file can't be asked about says nothing of it.
                _ => None,
            }
        })
    }
}

#[cfg(unix)]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}
