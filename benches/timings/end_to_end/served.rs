//! A server in this process.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use clap::Parser;
use rowcast::config::{Cli, Task};
use rowcast::server::Server;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A server with one core and a store of its own; it stops when it is dropped.
pub(crate) struct Served {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _data_dir: TempDir,
}

impl Served {
    pub(crate) fn start() -> Self {
        let data_dir = tempfile::tempdir().expect("a directory is made");
        let path = data_dir.path().to_str().expect("a temporary path is text");
        let arguments = ["rowcast", "--listen", "127.0.0.1:0", "--cores", "1", "--data-dir", path];
        let task = Cli::try_parse_from(arguments).expect("the options are right").into_task(None);
        let Ok(Task::Serve(config)) = task else { panic!("{task:?}") };
        let (stop, stopped) = oneshot::channel();
        let (started, address) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime is built").block_on(async move {
                let server = Server::start(&config).await.expect("the server starts");
                started.send(server.address()).expect("the bench waits");
                server.run(async { drop(stopped.await) }).await.expect("no part of it fails");
            });
        });
        let address = address.recv().expect("the server started");
        Self { address, stop: Some(stop), thread: Some(thread), _data_dir: data_dir }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
