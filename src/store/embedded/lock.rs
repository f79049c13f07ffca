//! One process to a data directory.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::OpenError;

/// A data directory that belongs to this process until this is dropped, or the process ends however it may.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    #[expect(dead_code, reason = "the lock lasts as long as the open file")]
    file: File,
    marks: Marks,
}

/// The times at which the lock's file was written by the last two holders, as the file system has them (`st_ctim`,
/// inode(7)), which no copy and no restored backup has: in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// By the holder before this one.
    pub(super) found: u64,
    /// By this one.
    pub(super) own: u64,
}

impl DirectoryLock {
    /// Takes the directory, which is made if it does not exist, and writes down its holder for others.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Directory { dir: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join("rowcast.lock");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let mut file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
            }
        }
        let found = mark(&file).map_err(failed)?;
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        write!(file, "process {}", std::process::id()).map_err(failed)?;
        let own = mark(&file).map_err(failed)?;
        Ok(Self { file, marks: Marks { found, own } })
    }

    /// Returns the marks.
    pub(super) const fn marks(&self) -> Marks {
        self.marks
    }
}

fn mark(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    Ok(metadata.ctime().cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec().cast_unsigned()))
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(read) if read > 0 => text,
        _ => "another process".to_owned(),
    }
}
