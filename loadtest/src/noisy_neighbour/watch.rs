//! Memory and threads of the server, looked at again and again: [`Watch`]. A server that takes too much is ended before
//! the machine is out of memory.

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::process::rss_kib;
use crate::server::Server;

/// The interval at which they are looked at.
const EVERY: Duration = Duration::from_millis(10);

/// The most that was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Most {
    pub(super) rss_kib: u64,
    pub(super) threads: usize,
}

/// Looks until it is dropped.
pub(super) struct Watch {
    most: Rc<Cell<Most>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches this server, which may have `rss_max_kib` resident.
    pub(super) fn start(server: &Rc<RefCell<Server>>, rss_max_kib: u64) -> Self {
        let (pid, server) = (server.borrow().pid(), Rc::downgrade(server));
        let most = Rc::new(Cell::new(Most::default()));
        let seen = Rc::clone(&most);
        let task = spawn_local(async move {
            // A process that has ended is noticed elsewhere.
            while let Ok(rss_kib) = rss_kib(&[pid]) {
                let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
                let Most { rss_kib: rss_most_kib, threads: threads_most } = seen.get();
                seen.set(Most { rss_kib: rss_kib.max(rss_most_kib), threads: threads.max(threads_most) });
                if rss_kib > rss_max_kib
                    && let Some(server) = server.upgrade()
                {
                    server.borrow_mut().end();
                }
                sleep(EVERY).await;
            }
        });
        Self { most, task }
    }

    /// Returns the most memory that was resident, as text.
    pub(super) fn text(&self) -> String {
        format!("with {} MiB resident at most", self.most.get().rss_kib / 1024)
    }

    pub(super) fn most(&self) -> Most {
        self.most.get()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
