//! Files that are read again when they change, and on SIGHUP: [`WatchedFiles`].

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::shutdown::Hangups;

/// The interval at which the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Files that are looked at again and again.
#[derive(Clone, Debug)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Vec<Stamp>,
}

/// A file's time of change, length and inode; a file that is not there has none.
type Stamp = Option<(i64, i64, u64, u64)>;

impl WatchedFiles {
    /// Returns these files as they are now. They are read after this for the first time, so that no change is missed.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let seen = stamps(&paths);
        Self { paths, seen }
    }

    /// Calls `read` whenever a file has changed, and on each of `hangups`, until `draining`.
    pub async fn keep_fresh(mut self, mut hangups: Hangups, draining: CancellationToken, read: impl Fn()) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_told = tokio::select! {
                () = draining.cancelled() => return,
                _ = ticks.tick() => false,
                () = hangups.next() => true,
            };
            let stamps = stamps(&self.paths);
            if is_told || stamps != self.seen {
                self.seen = stamps;
                if self.can_be_read_again() {
                    read();
                }
            }
        }
    }

    /// Returns true unless one is a pipe, say: it has nothing to be read twice, and opening it would wait for a writer.
    fn can_be_read_again(&self) -> bool {
        let drained = self.paths.iter().find(|path| is_drained_by_reading(path));
        if let Some(path) = drained {
            info!(path = %path.display(), "this is no file that can be read again; what was read at the start stays in use");
        }
        drained.is_none()
    }
}

fn is_drained_by_reading(path: &Path) -> bool {
    let kind = fs::metadata(path).map(|file| file.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket() || kind.is_char_device())
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some((file.mtime(), file.mtime_nsec(), file.size(), file.ino()))
    };
    paths.iter().map(|path| stamp(path)).collect()
}
