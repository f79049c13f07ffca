//! The keys that are in use: [`CurrentKeys`], which are read again when their files change, and on SIGHUP. A token that
//! was verified before stays so until it expires.

use std::path::PathBuf;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{Expected, Grant, Keys, KeysError, TokenError};
use crate::metrics::Metrics;
use crate::shutdown::Hangups;
use crate::watched_files::WatchedFiles;

/// The keys that tokens are checked with now, and their files.
#[derive(Debug)]
pub struct CurrentKeys {
    keys: ArcSwap<Keys>,
    paths: Vec<PathBuf>,
    expected: Expected,
    files: WatchedFiles,
}

impl CurrentKeys {
    /// Reads the keys in these files.
    ///
    /// # Errors
    /// A sentence for the user, which shows nothing of a key.
    pub fn read(paths: Vec<PathBuf>, expected: Expected) -> Result<Self, KeysError> {
        let files = WatchedFiles::new(paths.clone());
        let keys = Keys::read(&paths, expected.clone())?;
        Ok(Self { keys: ArcSwap::from_pointee(keys), paths, expected, files })
    }

    /// Returns the grant of a token at `now`, since 1970.
    ///
    /// # Errors
    /// The reason for which it is not accepted.
    pub fn verify(&self, token: &str, now: Duration) -> Result<Grant, TokenError> {
        self.keys.load().verify(token, now)
    }

    /// Keeps the keys fresh until `draining`: reads the files when they have changed, and on each of `hangups`.
    pub async fn keep_fresh(&self, hangups: Hangups, draining: CancellationToken, metrics: &Metrics) {
        self.files.clone().keep_fresh(hangups, draining, || self.reload(metrics)).await;
    }

    /// Reads the files, and checks the tokens that come from here on with the new keys: with all of them, or none.
    fn reload(&self, metrics: &Metrics) {
        let read = Keys::read(&self.paths, self.expected.clone());
        metrics.key_reads.count(read.is_ok());
        match read {
            Ok(keys) => {
                self.keys.store(keys.into());
                info!("the keys of tokens were read again and are in use");
            }
            Err(error) => error!(%error, "the new keys of tokens cannot be used; the old ones stay in use"),
        }
    }
}
