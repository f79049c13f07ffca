//! A server that a run starts for itself, and that ends with it: [`Launch`], [`Server`].

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::cli::loopback;

/// The text before the address in the first line that the server prints.
const LIVE: &str = "Rowcast is live at http://";
/// A server that takes longer to start or to stop has hung.
const PATIENCE: Duration = Duration::from_mins(1);
/// The interval at which the end of a server that stops is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The way in which a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    /// The directory in which its own is made.
    pub(crate) parent: PathBuf,
    pub(crate) options: Vec<String>,
    /// The processor that it is kept on, if it is.
    pub(crate) processor: Option<u32>,
}

impl Launch {
    /// Starts the server with its data in a new directory, and waits until it listens.
    pub(crate) async fn start(self) -> anyhow::Result<Server> {
        let start = move || {
            let directory = Directory::new(&self.parent)?;
            Server::start_in(directory, self)
        };
        spawn_blocking(start).await.context("start the server")?
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = match self.processor {
            None => Command::new(&self.binary),
            Some(processor) => {
                // Replaces itself by the server, whose process id is therefore the child's.
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &processor.to_string()]).arg(&self.binary);
                command
            }
        };
        // The variables that are set for a server that somebody runs, its database above all, are not for this one.
        for (name, _) in env::vars_os() {
            if name == "DATABASE_URL" || name.to_string_lossy().starts_with("ROWCAST_") {
                command.env_remove(name);
            }
        }
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(directory).args(&self.options);
        command.env("RUST_LOG", "rowcast=error").stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// Returns the server that is asked for, or the one beside this binary.
pub(crate) fn binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let own = env::current_exe().context("find the server beside this binary; name it with --server")?;
    Ok(own.with_file_name("rowcast"))
}

/// A server of this run alone, on a free port of this machine, with a directory of its own.
pub(crate) struct Server {
    // Ends before its directory goes.
    process: Process,
    directory: Directory,
    launch: Launch,
    pub(crate) address: SocketAddr,
}

impl Server {
    fn start_in(directory: Directory, launch: Launch) -> anyhow::Result<Self> {
        let started = launch.command(&directory.0).spawn().with_context(|| {
            let binary = launch.binary.display();
            format!("start {binary}; build it (cargo build --profile dist), or name another with --server")
        });
        let mut process = Process(started?);
        let stdout = process.0.stdout.take().context("read what the server prints")?;
        let (sender, receiver) = mpsc::sync_channel(1);
        thread::spawn(move || read_address(stdout, &sender));
        let address = receiver.recv_timeout(PATIENCE).context("the server did not say where it listens")?;
        let address = loopback(&address)?;
        Ok(Self { process, directory, launch, address })
    }

    /// Stops it, and starts one like it with the same data, on another port.
    pub(crate) async fn restart(self) -> anyhow::Result<Self> {
        let Self { mut process, directory, launch, .. } = self;
        timeout(PATIENCE, process.stop()).await.context("the server did not stop for a minute")??;
        spawn_blocking(move || Self::start_in(directory, launch)).await.context("start the server again")?
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Ends it at once.
    pub(crate) fn end(&mut self) {
        self.process.end();
    }

    /// Refuses a server that has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.process.0.try_wait().context("ask for the state of the server")?;
        ensure!(ended.is_none(), "the server ended by itself: {}", ended.unwrap_or_default());
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

/// A process that ends when it is dropped.
struct Process(Child);

impl Process {
    fn end(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
    }

    /// Asks it to stop, and waits until it has.
    async fn stop(&mut self) -> anyhow::Result<()> {
        // One that has ended is not there to be asked.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        while self.0.try_wait().context("ask for the state of the server")?.is_none() {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        // It does not matter to what was measured.
        let _ = self.0.wait();
    }
}

/// A directory that is removed with all that is in it.
struct Directory(PathBuf);

impl Directory {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("rowcast-load-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // It does not matter to what was measured.
        let _ = fs::remove_dir_all(&self.0);
    }
}
