//! Reading files of a disk that can't give all of them back: what it doesn't give is zeros, and is counted.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

/// Bytes that are read at once, and block by block where that fails.
const WINDOW_BYTES: usize = 1 << 20;
const BLOCK_BYTES: usize = 4096;

/// The result of a read: bytes, fewer than were asked for only at the end of the file, and how many of them are zeros
/// because the disk gave none.
pub(super) struct Legible {
    pub(super) bytes: usize,
    pub(super) unreadable: usize,
}

/// Reads what stands in a file from an offset on.
///
/// # Errors
/// The file has no length.
pub(super) fn read(file: &File, offset: u64, into: &mut [u8]) -> io::Result<Legible> {
    let left = file.metadata()?.len().saturating_sub(offset);
    let bytes = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    let into = &mut into[..bytes];
    if read_exact(file, offset, into).is_ok() {
        return Ok(Legible { bytes, unreadable: 0 });
    }
    let mut unreadable = 0;
    for (number, block) in (0..).zip(into.chunks_mut(BLOCK_BYTES)) {
        if read_exact(file, offset + number * BLOCK_BYTES as u64, block).is_err() {
            block.fill(0);
            unreadable += block.len();
        }
    }
    Ok(Legible { bytes, unreadable })
}

fn read_exact(mut file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(into)
}

/// Copies a file; answers how many bytes of it could not be read.
///
/// # Errors
/// It can't be opened, or the copy can't be written.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    // Which shares blocks where the file system can.
    if fs::copy(from, to).is_ok() { Ok(0) } else { copy_legible(from, to) }
}

fn copy_legible(from: &Path, to: &Path) -> io::Result<u64> {
    let (from, mut to) = (File::open(from)?, File::create(to)?);
    let (mut window, mut offset, mut unreadable) = (vec![0; WINDOW_BYTES], 0, 0);
    loop {
        let legible = read(&from, offset, &mut window)?;
        if legible.bytes == 0 {
            return Ok(unreadable);
        }
        to.write_all(&window[..legible.bytes])?;
        offset += legible.bytes as u64;
        unreadable += legible.unreadable as u64;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_can_be_read_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let bytes: Vec<u8> = (0..3 * WINDOW_BYTES / 2).map(|n| n as u8).collect();
        fs::write(&from, &bytes).unwrap();
        assert_eq!(copy_legible(&from, &to).unwrap(), 0);
        assert!(fs::read(&to).unwrap() == bytes);
        let file = File::open(&from).unwrap();
        let mut window = [0; 10];
        let legible = read(&file, bytes.len() as u64 - 4, &mut window).unwrap();
        assert_eq!((legible.bytes, legible.unreadable), (4, 0));
        assert_eq!(window[..4], bytes[bytes.len() - 4..]);
    }

    /// A folder has a length, and nothing of it can be read.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_can_not_be_read_is_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        let length = folder.metadata().unwrap().len() as usize;
        let mut window = vec![7; length + 10];
        let legible = read(&folder, 0, &mut window).unwrap();
        assert_eq!((legible.bytes, legible.unreadable), (length, length));
        assert!(window[..length].iter().all(|byte| *byte == 0));
    }
}
