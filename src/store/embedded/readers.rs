//! The threads that read: [`Readers`]. Few of them, however many ask: a read of a file waits for a disk or for a core,
//! and more threads make neither faster.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use redb::Database;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::data_file::DataFile;
use super::told;
use crate::store::StoreError;

/// The number of threads that read.
pub(super) const THREADS: usize = 4;
/// The most reads that wait for a thread; those that find no room wait for it.
const READS_WAITING_MAX: usize = 1024;
/// The longest time that a read may take, its waiting included.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

type Read = Box<dyn FnOnce(&DataFile) + Send>;

/// A handle to the threads, which end with the last of its clones.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    reads: mpsc::Sender<Read>,
}

impl Readers {
    pub(super) fn spawn(file: &Arc<DataFile>) -> io::Result<Self> {
        let (reads, waiting) = mpsc::channel(READS_WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..THREADS {
            let (file, waiting) = (Arc::clone(file), Arc::clone(&waiting));
            thread::Builder::new().name(format!("read {number}")).spawn(move || run(&file, &waiting))?;
        }
        Ok(Self { reads })
    }

    /// Reads on one of the threads.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where it takes too long, and [`StoreError::Fault`] where the data is damaged.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |file| {
            // Whoever asked may have left while this waited.
            if !answer.is_closed() {
                let _ = answer.send(file.with(read));
            }
        });
        let asked = async {
            self.reads.send(read).await.ok()?;
            answered.await.ok()
        };
        let unavailable = |why: &str| StoreError::Unavailable(why.into());
        let outcome = timeout(READ_TIMEOUT, asked).await;
        let outcome = outcome.map_err(|_| unavailable("a read waited too long behind other reads"))?;
        outcome.ok_or_else(|| unavailable("the reading threads have ended"))?.map_err(|error| told(&error))
    }
}

/// Reads until nobody can ask any more. One thread waits for the next read, and the others for their turn to wait.
fn run(file: &DataFile, waiting: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(read) = next else { return };
        read(file);
    }
}
