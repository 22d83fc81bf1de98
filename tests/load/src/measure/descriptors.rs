//! File descriptors: every connection is one, and the usual soft limit of 1,024 is for programs that use `select`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::LoadError;

/// Raises the limit of open descriptors as far as the system lets us; answers the limit.
pub fn raise_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    // A limit that can't be raised stays, and the next line reads it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Makes sure that so many more descriptors can be opened.
pub(crate) fn reserve(needed: usize) -> Result<(), LoadError> {
    // Standard streams, the poll's own, and those of libraries.
    const OTHERS: u64 = 32;
    let limit = raise_limit();
    if limit < needed as u64 + OTHERS {
        return Err(LoadError(format!(
            "{needed} connections need more file descriptors than the {limit} allowed here (ulimit -n)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_descriptors_than_there_can_be_are_an_error() {
        assert!(reserve(10).is_ok());
        assert!(reserve(usize::MAX >> 2).is_err());
    }
}
