//! Whether a folder is fit to hold a log: it has one, or it is empty. A log in the midst of other files would be a mistyped
//! path, and its owner would find the engine's files among their own.

use std::{ffi::OsString, fs, path::Path};

/// Files by which a folder is known to hold a log.
const LOG_FILES: [&str; 3] = ["db", "watermark", "journal"];
/// Other names of ours, and of file systems: a log may begin beside them.
const KNOWN: [&str; 6] = ["ballast", "blobs", "conf", "lost+found", "tls-acme", "tls-dev"];
/// Beginnings of names of the engine's snapshots.
const KNOWN_PREFIXES: [&str; 2] = ["snap.", "damaged.snap."];

/// The first of the files of somebody else in a folder that holds no log. A folder that can't be read has none: the
/// opening will tell why.
pub(crate) fn foreign_file(dir: &Path) -> Option<OsString> {
    let holds_log = || LOG_FILES.iter().any(|name| dir.join(name).is_file());
    if holds_log() {
        return None;
    }
    let names = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    // Looked at again, since another process may be making a log there just now.
    names.filter(|name| !is_known(&name.to_string_lossy())).min().filter(|_| !holds_log())
}

fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || KNOWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(files: &[&str], folders: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|name| fs::write(dir.path().join(name), "x").unwrap());
        folders.iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
        foreign_file(dir.path()).map(|name| name.into_string().unwrap())
    }

    #[test]
    fn a_folder_is_fit_if_it_holds_a_log_or_nothing_of_others() {
        assert_eq!(foreign(&[], &[]), None);
        assert_eq!(foreign(&["ballast", "snap.0001"], &["lost+found", "blobs", "tls-dev"]), None);
        assert_eq!(foreign(&["db", "letter.txt"], &["src"]), None);
        assert_eq!(foreign(&["watermark", "notes"], &[]), None);
        assert_eq!(foreign_file(Path::new("/no/such/folder")), None);
    }

    #[test]
    fn the_first_foreign_file_is_named() {
        assert_eq!(foreign(&["z.txt", "letter.txt"], &["lost+found"]).as_deref(), Some("letter.txt"));
        // A project's `db` is a folder.
        assert_eq!(foreign(&[], &["db"]).as_deref(), Some("db"));
        assert_eq!(foreign(&[".hidden"], &[]).as_deref(), Some(".hidden"));
    }
}
