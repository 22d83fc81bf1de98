//! The operator's key: made anew at each start, and written beside the log for this user alone. Who can read it could
//! change the log itself; so the first key of a broker can be made without a token, and nothing is trusted because it comes
//! from this machine, as everything does that a proxy here passes on.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use tailwire_access::{Access, AccessRecord, NewKey};
use tailwire_core::Clock;
use tailwire_model::{Action, Grants, Term};

use super::credentials::random;

/// Its file, in the data folder.
pub(crate) const OPERATOR_KEY: &str = "operator.key";
const NAME: &str = "operator of this machine";

/// Makes the key. It is no record of the log: it ends with the process.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn provide(access: &Access, data: &Path) -> io::Result<()> {
    let records = Term::parse("$access/**").map_err(io::Error::other)?;
    let grants = Grants::new([(Action::Manage, records)]);
    let random = random().map_err(|_| io::Error::other("no random numbers"))?;
    let now = Clock::system_now();
    let NewKey { key, record } = NewKey::new(&random, NAME, grants, now, None);
    access.apply(AccessRecord::Key(record), now).map_err(io::Error::other)?;
    let (path, begun) = (data.join(OPERATOR_KEY), data.join("operator.key.new"));
    // Not over the old one, whose mode somebody may have changed.
    match fs::remove_file(&begun) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&begun)?;
    file.write_all(key.reveal().as_bytes())?;
    file.write_all(b"\n")?;
    fs::rename(begun, path)
}
