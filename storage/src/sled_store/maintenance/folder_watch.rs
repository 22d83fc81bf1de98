//! The folder watch: whether the files of an open log still stand where they were opened. A folder that is deleted,
//! emptied, moved or replaced leaves an open log writing to files that no next opening will find, and a file that somebody
//! cut short is filled with holes; nothing of that fails by itself.

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
    files: Vec<WatchedFile>,
    /// Keeps others from beginning a log in the same folder, also if it was emptied.
    _lock: Option<File>,
}

/// A file, or the folder.
struct WatchedFile {
    path: PathBuf,
    /// Open: a deleted file keeps its number as long, and no other file is given that.
    file: File,
    /// How many bytes it has at least.
    bytes_min: u64,
}

impl FolderWatch {
    /// Of the log in `dir`, which was just opened.
    ///
    /// # Errors
    /// A file that was just written can't be opened.
    pub(crate) fn of(dir: &Path, lock: Option<File>) -> io::Result<Self> {
        let mut files = Vec::new();
        // The engine gives back room at the end of its file, but never all; the two others keep their length.
        let watched = [
            (dir.into(), 0),
            (dir.join("db"), 1),
            (Watermark::path(dir), u64::MAX),
            (Journal::path(dir), u64::MAX),
        ];
        for (path, bytes) in watched {
            match File::open(&path) {
                Ok(file) => {
                    let bytes_min = file.metadata()?.len().min(bytes);
                    files.push(WatchedFile { path, file, bytes_min });
                }
                // A full disk has no room for a journal; and not every system opens a folder.
                Err(_) if path.ends_with(Journal::path(Path::new(""))) || !cfg!(unix) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { files, _lock: lock })
    }

    /// The first file that was replaced, removed or cut short, if any, in words.
    pub(crate) fn look(&self) -> Option<String> {
        self.files.iter().find_map(|WatchedFile { path, file, bytes_min }| {
            use io::ErrorKind::{NotADirectory, NotFound};
            let path_shown = path.display();
            match (fs::metadata(path), file.metadata()) {
                (Ok(there), Ok(open)) if is_same(&there, &open) => (there.len() < *bytes_min)
                    .then(|| format!("{path_shown} was cut short while the log was open")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_short_is_noticed() -> io::Result<()> {
        for cut in ["db", "watermark", "journal"] {
            let dir = tempfile::tempdir()?;
            for name in ["db", "watermark", "journal"] {
                fs::write(dir.path().join(name), [0; 1024])?;
            }
            let watch = FolderWatch::of(dir.path(), None)?;
            // The engine's file may get shorter.
            fs::write(dir.path().join("db"), [0; 512])?;
            assert_eq!(watch.look(), None);
            fs::write(dir.path().join(cut), [])?;
            assert!(watch.look().is_some_and(|what| what.contains(&format!("{cut} was cut short"))), "{cut}");
        }
        Ok(())
    }
}
