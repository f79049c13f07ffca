//! Private Postgres clusters: [`Cluster::shared`] for most tests, [`Cluster::start`] for those that stop theirs.
//!
//! A cluster lives in a directory of its own, listens on 127.0.0.1 and on a socket in that directory, trusts everybody,
//! and ends with the test process however that ends: a shell holds the other end of a pipe, and when the pipe closes it
//! stops the cluster and removes the directory.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use tokio_postgres::{Client, NoTls};

const DIRECTORY_PREFIX: &str = "rowcast-postgres-";

/// Starts the cluster, says so, and waits: for the mode to stop it in, or for the end of the test process.
const KEEPER: &str = r#"
    "$1/pg_ctl" -D "$2/data" -l "$2/log" -w -s start || exit 1
    echo ready
    if read -r mode; then
        "$1/pg_ctl" -D "$2/data" -m "$mode" -w -s stop
    else
        "$1/pg_ctl" -D "$2/data" -m immediate -w -s stop
        rm -rf "$2"
    fi
"#;

/// A Postgres of our own.
pub(crate) struct Cluster {
    directory: PathBuf,
    port: u16,
    keeper: Mutex<Option<Child>>,
}

/// The encryption of a cluster.
pub(crate) struct ServerTls {
    /// The server's certificate, PEM.
    pub(crate) certificate: String,
    /// Its key, PEM.
    pub(crate) key: String,
}

impl Cluster {
    /// The cluster that tests share, without TLS; started when it is first asked for. Nobody stops it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            remove_leftovers();
            Self::start()
        })
    }

    /// A cluster for one test. It ends when it is dropped.
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// A cluster for one test that offers TLS, and plain text too.
    pub(crate) fn start_with_tls(tls: &ServerTls) -> Self {
        Self::start_with(Some(tls))
    }

    fn start_with(tls: Option<&ServerTls>) -> Self {
        let cluster = Self { directory: new_directory(), port: free_port(), keeper: Mutex::new(None) };
        let mut initdb = cluster.command(&binaries().join("initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]);
        let output = initdb.arg("-D").arg(cluster.directory.join("data")).output().expect("initdb runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        cluster.configure(tls);
        cluster.start_again();
        cluster
    }

    /// Starts a stopped cluster, on the same port, and returns once it takes connections.
    pub(crate) fn start_again(&self) {
        let mut command = self.command(Path::new("/bin/sh"));
        command.arg("-c").arg(KEEPER).arg("keeper").arg(binaries()).arg(&self.directory);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().expect("a shell runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a pipe is read");
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        assert_eq!(line, "ready\n", "Postgres did not start:\n{log}");
        *self.keeper.lock().unwrap() = Some(child);
    }

    /// Stops the cluster, ending its connections, and returns once it is down.
    pub(crate) fn stop(&self) {
        self.end("fast\n");
    }

    /// Ends the cluster as a crash would, and returns once it is down.
    pub(crate) fn crash(&self) {
        self.end("immediate\n");
    }

    /// Copies the files of the stopped cluster aside.
    pub(crate) fn save(&self) {
        self.in_directory("rm -rf saved; cp -a data saved");
    }

    /// Puts the copy in the place of the stopped cluster's files: commits since then are lost, as they are in a failover
    /// to a server that lags.
    pub(crate) fn put_back(&self) {
        self.in_directory("rm -rf data; mv saved data");
    }

    /// Has the stopped cluster do this while nobody can connect.
    pub(crate) fn do_alone(&self, database: &Database, statement: &str) {
        let name = database.url.rsplit('/').next().expect("a URL has one");
        let postgres = binaries().join("postgres");
        let script = format!("echo {statement:?} | {} --single -j -D data {name} > alone 2>&1", postgres.display());
        self.in_directory(&script);
        let said = fs::read_to_string(self.directory.join("alone")).unwrap_or_default();
        assert!(!said.contains("ERROR"), "{said}");
    }

    /// Has the stopped cluster start as a standby, which is of another timeline once it is promoted.
    pub(crate) fn become_standby(&self) {
        self.in_directory("touch data/standby.signal");
    }

    fn in_directory(&self, script: &str) {
        let status = self.command(Path::new("/bin/sh")).args(["-c", script]).status();
        assert!(status.expect("a shell runs").success(), "{script}");
    }

    fn end(&self, mode: &str) {
        let mut child = self.keeper.lock().unwrap().take().expect("the cluster runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(mode.as_bytes()).expect("the keeper listens");
        assert!(child.wait().expect("the keeper is our child").success());
    }

    /// A database that nobody else uses, empty.
    pub(crate) async fn database(&self) -> Database {
        self.database_with("").await
    }

    /// Likewise, whose encoding looks at no byte.
    pub(crate) async fn database_in_sql_ascii(&self) -> Database {
        self.database_with("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").await
    }

    async fn database_with(&self, options: &str) -> Database {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&self.url("postgres")).await;
        admin.batch_execute(&format!("CREATE DATABASE {name} {options}")).await.expect("a database is made");
        Database { url: self.url(&name) }
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A command as a user that Postgres accepts to run as, which root is not.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env_remove("PGDATA").env_remove("PGPORT");
        as_unprivileged(&mut command);
        command
    }

    fn configure(&self, tls: Option<&ServerTls>) {
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\n\
             max_connections = 200\ndeadlock_timeout = 200ms\n",
            self.port,
            self.directory.display()
        );
        if let Some(tls) = tls {
            self.write_private("server.crt", &tls.certificate);
            self.write_private("server.key", &tls.key);
            settings.push_str("ssl = on\n");
        }
        let path = self.directory.join("data/postgresql.conf");
        let defaults = fs::read_to_string(&path).expect("initdb wrote it");
        fs::write(&path, defaults + &settings).expect("the settings are written");
    }

    fn write_private(&self, name: &str, text: &str) {
        let path = self.directory.join("data").join(name);
        fs::write(&path, text).expect("a file is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        give_away(&path);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.keeper.lock().unwrap().take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A database of a cluster, which goes with it.
pub(crate) struct Database {
    url: String,
}

impl Database {
    /// Returns its URL, for its owner.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns its URL, for another user.
    pub(crate) fn url_as(&self, user: &str) -> String {
        self.url.replacen("postgres@", &format!("{user}@"), 1)
    }

    /// A session in it, as `psql` would have.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url).await
    }
}

/// A session, driven until its client is dropped.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres takes connections");
    tokio::spawn(connection);
    client
}

/// Debian's place for the newest version, unless `ROWCAST_PG_BIN` or the `PATH` says otherwise.
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let given = std::env::var_os("ROWCAST_PG_BIN").map(PathBuf::from).into_iter();
        let mut debian: Vec<PathBuf> =
            fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        debian.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
        let debian = debian.into_iter().rev().map(|path| path.join("bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        given
            .chain(debian)
            .chain(std::env::split_paths(&path))
            .find(|path| path.join("initdb").exists())
            .expect("Postgres is installed, or ROWCAST_PG_BIN says where its programs are")
    })
}

/// The client that everybody has.
pub(crate) fn psql() -> PathBuf {
    binaries().join("psql")
}

/// A directory of this test process that Postgres' user may use.
pub(crate) fn new_directory() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("{DIRECTORY_PREFIX}{}-{number}", std::process::id()));
    fs::create_dir(&directory).expect("a directory is made");
    give_away(&directory);
    directory
}

/// Removes the directories of test processes that are gone and whose keeper was killed too.
fn remove_leftovers() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY_PREFIX)) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A port that is free now. The system gives such ports out in turn, so that it is so a moment later too.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

fn give_away(path: &Path) {
    if let Some((uid, gid)) = unprivileged() {
        chown(path, Some(uid), Some(gid)).expect("root gives files away");
    }
}

/// Has a command run as a user other than root.
pub(crate) fn as_unprivileged(command: &mut Command) -> &mut Command {
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid).gid(gid);
    }
    command
}

/// The user to run Postgres as, where the tests run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    is_root.then(|| {
        let users = fs::read_to_string("/etc/passwd").expect("there are users");
        ["postgres", "nobody"].iter().find_map(|name| ids(&users, name)).expect("there is a user other than root")
    })
}

fn ids(users: &str, name: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> =
        users.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<&str>| fields[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}
