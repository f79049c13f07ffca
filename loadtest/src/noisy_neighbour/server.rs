//! The server under test, started for one trial and ended with it: [`Server`].

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context, ensure};

use crate::cli::loopback;

/// The text before the address in the first line that the server prints.
const LIVE: &str = "Rowcast is live at http://";
/// A server that takes longer to start has hung.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server of this run alone, on a free port of this machine, with a directory of its own.
pub(super) struct Server {
    child: Child,
    directory: PathBuf,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Starts `binary` with its data in a new directory below `parent`, and waits until it listens.
    pub(super) fn start(binary: &Path, parent: &Path, options: &[String]) -> anyhow::Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("rowcast-noisy-neighbour-{}-{number}", std::process::id()));
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        let mut command = Command::new(binary);
        // The variables that are set for a server that somebody runs, its database above all, are not for this one.
        for (name, _) in env::vars_os() {
            if name == "DATABASE_URL" || name.to_string_lossy().starts_with("ROWCAST_") {
                command.env_remove(name);
            }
        }
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&directory).args(options);
        command.env("RUST_LOG", "rowcast=error").stdin(Stdio::null()).stdout(Stdio::piped());
        let started = command.spawn().with_context(|| {
            format!("start {}; build it (cargo build --profile dist), or name another with --server", binary.display())
        });
        match started {
            Ok(child) => Self { child, directory, address: SocketAddr::from(([127, 0, 0, 1], 0)) }.live(),
            Err(error) => {
                // It is empty, and its name is not used again.
                let _ = fs::remove_dir(&directory);
                Err(error)
            }
        }
    }

    fn live(mut self) -> anyhow::Result<Self> {
        let stdout = self.child.stdout.take().context("read what the server prints")?;
        let (sender, receiver) = mpsc::sync_channel(1);
        thread::spawn(move || read_address(stdout, &sender));
        let address = receiver.recv_timeout(PATIENCE).context("the server did not say where it listens")?;
        self.address = loopback(&address)?;
        Ok(self)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once.
    pub(super) fn end(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
    }

    /// Refuses a server that has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait().context("ask for the state of the server")?;
        ensure!(ended.is_none(), "the server ended during the attack: {}", ended.unwrap_or_default());
        Ok(())
    }
}

/// Passes on the address, and goes on reading, so that the server's later lines have somewhere to go.
fn read_address(stdout: ChildStdout, sender: &mpsc::SyncSender<String>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(address) = line.strip_prefix(LIVE) {
            // Whoever started the server may have given up.
            let _ = sender.try_send(address.trim().to_owned());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        // Neither matters to what was measured.
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
