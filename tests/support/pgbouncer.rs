//! A private `PgBouncer`: [`PgBouncer::of`]. <https://www.pgbouncer.org/config.html>

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::postgres::{Cluster, as_unprivileged, free_port, new_directory};

/// In front of a cluster, until it is dropped.
pub(crate) struct PgBouncer {
    directory: PathBuf,
    port: u16,
    child: Child,
}

impl PgBouncer {
    /// Starts one in session mode, and returns once it takes connections.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self::in_mode(cluster, "session")
    }

    /// Likewise, one that gives each transaction another connection.
    pub(crate) fn pooling_transactions(cluster: &Cluster) -> Self {
        Self::in_mode(cluster, "transaction")
    }

    fn in_mode(cluster: &Cluster, mode: &str) -> Self {
        let (directory, port) = (new_directory(), free_port());
        std::fs::write(directory.join("users.txt"), "\"postgres\" \"\"\n").expect("a file is written");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = trust\nauth_file = {}/users.txt\npool_mode = {mode}\nunix_socket_dir =\n",
            cluster.port(),
            directory.display()
        );
        std::fs::write(directory.join("pgbouncer.ini"), settings).expect("a file is written");
        let mut command = Command::new(program());
        command.arg(directory.join("pgbouncer.ini")).current_dir(&directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = as_unprivileged(&mut command).spawn().expect("PgBouncer runs");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().expect("it is our child").is_none(), "PgBouncer ended");
            std::thread::yield_now();
        }
        Self { directory, port, child }
    }

    /// The same database by way of it.
    pub(crate) fn url_of(&self, url: &str) -> String {
        let (head, database) = url.rsplit_once('/').expect("a URL has a path");
        let (head, _) = head.rsplit_once(':').expect("the cluster has a port");
        format!("{head}:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn program() -> &'static str {
    const PLACES: [&str; 4] =
        ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];
    PLACES
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("PgBouncer is installed (scripts/test.sh --install)")
}
