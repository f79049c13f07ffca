//! The command line and the environment: what a user writes ([`Cli`]), and what the server is given ([`Config`]) after
//! all of it was checked.

mod limits;

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::limits::LimitArgs;
use crate::auth::{Expected, Keys, KeysError};
use crate::connection::ConnectionLimits;
use crate::http::HttpLimits;
use crate::http::origin::AllowedOrigins;
use crate::model::product::Product;
use crate::session::queue::{SendQueueLimits, SlowConsumerPolicy};
use crate::store::postgres::config::{self, PostgresConfig};
use crate::transport::admission::AdmissionLimits;
use crate::transport::tls::TlsFiles;

/// The command line of `rowcast`.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do; without one, `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

const EXAMPLES: &str = "Examples:
  rowcast                                             serve http://127.0.0.1:8080, products in ./rowcast-data
  rowcast --listen 127.0.0.1:9000 --cores 1           another port, one thread for fan-out
  rowcast --database-url postgres://app@db/shop       products in Postgres; changes by any client are cast
  rowcast migrate --database-url postgres://app@db/shop
                                                      only prepare the database, with a role that may
  rowcast cert && rowcast --tls-cert cert.pem --tls-key key.pem
                                                      https and wss with a certificate for development

Every option can be given by its environment variable instead. Logs go to standard error; RUST_LOG=rowcast=debug shows
more. SIGTERM and Ctrl-C stop the server: it closes its WebSockets over --drain-seconds, casts what is committed, and
ends. Another one, after a second, ends it at once.";

/// What `rowcast` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the page, the REST API and the WebSockets (this is the default)
    Serve(Box<ServeArgs>),
    /// Bring a Postgres database's tables and triggers up to date, and exit; `serve` does it too
    Migrate(MigrateArgs),
    /// Make a certificate for development: cert.pem and key.pem, signed by nobody but itself
    Cert(CertArgs),
}

/// What `serve` is told.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "ROWCAST_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Listen on an address that other machines reach although there is no --jwt-key, so that anybody there may read and
    /// write
    #[arg(long, env = "ROWCAST_ALLOW_ANONYMOUS")]
    allow_anonymous: bool,

    #[command(flatten)]
    access: AccessArgs,

    /// Directory of the embedded store, which is used when no database is given
    #[arg(long, env = "ROWCAST_DATA_DIR", value_name = "DIR", default_value = "rowcast-data")]
    data_dir: PathBuf,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    database: DatabaseArgs,

    /// Threads that hold the connections and fan out [default: one per processor]
    #[arg(long, env = "ROWCAST_CORES", value_name = "N")]
    cores: Option<NonZeroU16>,

    /// Slices of the products, each owned by one core [default: one per core]
    #[arg(long, env = "ROWCAST_SHARDS", value_name = "N")]
    shards: Option<NonZeroUsize>,

    /// Milliseconds that a core without time to spare lets changes gather at most, to deliver more of them with each write.
    /// Raises what an overloaded server delivers, and how late. 0 delivers at once whatever the load
    #[arg(long, env = "ROWCAST_GATHER_MS", value_name = "MS", default_value = "50")]
    gather_ms: u16,

    /// What gives way when a reader is too slow
    #[arg(long, env = "ROWCAST_SLOW_CONSUMER", value_name = "POLICY", default_value = "conflate")]
    slow_consumer: SlowConsumer,

    /// Changes that may wait for one socket
    #[arg(long, env = "ROWCAST_SEND_QUEUE_FRAMES", value_name = "N", default_value = "1024")]
    send_queue_frames: NonZeroUsize,

    /// Bytes of changes that may wait for one socket
    #[arg(long, env = "ROWCAST_SEND_QUEUE_BYTES", value_name = "BYTES", default_value = "1048576")]
    send_queue_bytes: NonZeroUsize,

    /// Seconds over which a server that stops closes its WebSockets; 0 closes all at once
    #[arg(long, env = "ROWCAST_DRAIN_SECONDS", value_name = "SECONDS", default_value = "10")]
    drain_seconds: u16,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// Who may use the server.
#[derive(Clone, Debug, Args)]
struct AccessArgs {
    /// Key that tokens are signed with: a secret for HS256 (at least 32 bytes), a public key in PEM (RSA, EC P-256 or
    /// P-384, Ed25519), or a JWKS. Of several (repeat it, or separate them by commas) a token's kid chooses: the kid in
    /// the JWKS, or the file's name without its extension
    #[arg(long, env = "ROWCAST_JWT_KEY", value_name = "FILE", value_delimiter = ',')]
    jwt_key: Vec<PathBuf>,

    /// What a token must have in its claim aud
    #[arg(long, env = "ROWCAST_JWT_AUDIENCE", value_name = "AUDIENCE")]
    jwt_audience: Option<String>,

    /// What a token must have as its claim iss
    #[arg(long, env = "ROWCAST_JWT_ISSUER", value_name = "ISSUER")]
    jwt_issuer: Option<String>,

    /// Origin whose pages may use the server beside its own: a scheme, a host, and a port where it is not the usual one.
    /// * is every origin. Several: repeat it, or separate them by commas
    #[arg(long, env = "ROWCAST_ALLOWED_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allowed_origin: Vec<String>,
}

/// What `migrate` is told.
#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// What `cert` is told.
#[derive(Clone, Debug, Args)]
pub struct CertArgs {
    /// Name or address that the certificate is for; may be given several times [default: this machine's]
    #[arg(long, env = "ROWCAST_HOST", value_name = "NAME", value_delimiter = ',')]
    host: Vec<String>,

    /// Directory to write cert.pem and key.pem to
    #[arg(long, env = "ROWCAST_OUT", value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// Replace the files if they are there
    #[arg(long, env = "ROWCAST_FORCE")]
    force: bool,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Clone, Debug, Args)]
struct TlsArgs {
    /// Certificate (PEM), followed by its issuers': serve https and wss. Read again when it changes, and on SIGHUP
    #[arg(long, env = "ROWCAST_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, env = "ROWCAST_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Seconds that a client has for its TLS handshake
    #[arg(long, env = "ROWCAST_TLS_HANDSHAKE_SECONDS", value_name = "N", default_value = "10")]
    tls_handshake_seconds: NonZeroU16,

    /// Listen here too, without TLS, and send every request on to https
    #[arg(long, env = "ROWCAST_REDIRECT_LISTEN", value_name = "ADDRESS:PORT", requires = "tls_cert")]
    redirect_listen: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct DatabaseArgs {
    /// Postgres, as postgres://user:password@host:port/name?sslmode=…; `DATABASE_URL` does too
    #[arg(long, env = "ROWCAST_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct LogArgs {
    /// How log lines are written to standard error
    #[arg(long, env = "ROWCAST_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SlowConsumer {
    /// The newest change of a product replaces the one that waits
    Conflate,
    /// The oldest change that waits is dropped
    Drop,
    /// The connection is closed with code 1013
    Disconnect,
}

impl From<SlowConsumer> for SlowConsumerPolicy {
    fn from(given: SlowConsumer) -> Self {
        match given {
            SlowConsumer::Conflate => Self::Conflate,
            SlowConsumer::Drop => Self::Drop,
            SlowConsumer::Disconnect => Self::Disconnect,
        }
    }
}

/// What is to be done, checked.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum Task {
    /// Serve.
    Serve(Config),
    /// Migrate this database.
    Migrate(Box<PostgresConfig>),
    /// Make a certificate for development.
    Certify(CertConfig),
}

/// Which certificate to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertConfig {
    /// For whom.
    pub hosts: Vec<String>,
    /// Where to.
    pub dir: PathBuf,
    /// Whether files that are there give way.
    pub force: bool,
}

/// What the server is given.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether it speaks TLS there, and how.
    pub tls: Option<TlsConfig>,
    /// Where products are.
    pub store: StoreConfig,
    /// How many cores.
    pub cores: u16,
    /// How many shards.
    pub shards: usize,
    /// How long a core without time to spare lets changes gather at most.
    pub gather_max: Duration,
    /// Over how long the WebSockets are closed when it stops.
    pub drain: Duration,
    /// How many may come in.
    pub admission: AdmissionLimits,
    /// What bounds each HTTP connection.
    pub http: HttpLimits,
    /// What bounds each WebSocket.
    pub limits: ConnectionLimits,
    /// What tokens are checked with; without keys everybody may do everything.
    pub keys: Option<Arc<Keys>>,
    /// Whose pages may use the server.
    pub allowed_origins: Arc<AllowedOrigins>,
}

/// How to speak TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate and its key.
    pub files: TlsFiles,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Where to listen without TLS, only to send everybody on to https.
    pub redirect_listen: Option<SocketAddr>,
}

/// Which store.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// The embedded one in this directory.
    Embedded(PathBuf),
    /// This database.
    Postgres(Box<PostgresConfig>),
}

/// What is wrong with the configuration, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address cannot be read or found.
    #[error("--listen {0}: not an address and a port, such as 127.0.0.1:8080")]
    Listen(String),
    /// The address of the redirect cannot be read or found.
    #[error("--redirect-listen {0}: not an address and a port, such as 127.0.0.1:8081")]
    RedirectListen(String),
    /// Everybody on the network could read and write.
    #[error(
        "--listen {0} is reached from other machines, where anybody could read and write; give a --jwt-key that their tokens are signed with, add --allow-anonymous if anybody may, or listen on 127.0.0.1"
    )]
    Public(SocketAddr),
    /// The keys for tokens.
    #[error("--jwt-key {0}")]
    Keys(#[from] KeysError),
    /// Nobody would look at what the tokens must say.
    #[error("{0} says what tokens must say, and without --jwt-key there are none; give that too")]
    NoKeys(&'static str),
    /// Not what browsers send.
    #[error(
        "--allowed-origin {0}: not an origin, such as https://shop.example or http://localhost:5173, without a path"
    )]
    Origin(String),
    /// Ids are sent in commands of a bounded size, and counted in 32 bits.
    #[error("--max-subscriptions {0} is above 4294967295")]
    Subscriptions(usize),
    /// The queue could not hold a usual change.
    #[error("--send-queue-bytes {0} is less than 4096, too little for a change")]
    QueueBytes(usize),
    /// The database's URL.
    #[error("--database-url (or DATABASE_URL): {0}")]
    Database(#[from] config::ConfigError),
    /// `migrate` without a database.
    #[error("migrate needs --database-url, or DATABASE_URL in the environment")]
    NoDatabase,
}

impl Cli {
    /// How to write the log.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        match &self.command {
            None => self.serve.log.log_format,
            Some(Command::Serve(args)) => args.log.log_format,
            Some(Command::Migrate(args)) => args.log.log_format,
            Some(Command::Cert(args)) => args.log.log_format,
        }
    }

    /// Checks everything that can be checked before anything is opened. `database_url` is the environment's
    /// `DATABASE_URL`, which counts where the option is not given.
    ///
    /// # Errors
    /// One sentence for the user.
    pub fn into_task(self, database_url: Option<String>) -> Result<Task, ConfigError> {
        match self.command {
            None => self.serve.into_config(database_url).map(Task::Serve),
            Some(Command::Serve(args)) => args.into_config(database_url).map(Task::Serve),
            Some(Command::Migrate(args)) => {
                args.database.postgres(database_url)?.map(Task::Migrate).ok_or(ConfigError::NoDatabase)
            }
            Some(Command::Cert(args)) => Ok(Task::Certify(args.into_config())),
        }
    }
}

impl CertArgs {
    fn into_config(self) -> CertConfig {
        let hosts = match self.host[..] {
            [] => ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
            _ => self.host,
        };
        CertConfig { hosts, dir: self.out, force: self.force }
    }
}

impl TlsArgs {
    fn into_config(self) -> Result<Option<TlsConfig>, ConfigError> {
        let (Some(certificate), Some(key)) = (self.tls_cert, self.tls_key) else { return Ok(None) };
        let redirect = |text: String| socket_address(&text).ok_or(ConfigError::RedirectListen(text));
        Ok(Some(TlsConfig {
            files: TlsFiles { certificate, key },
            handshake_timeout: Duration::from_secs(self.tls_handshake_seconds.get().into()),
            redirect_listen: self.redirect_listen.map(redirect).transpose()?,
        }))
    }
}

impl DatabaseArgs {
    /// An empty variable is one that is not set.
    fn postgres(self, fallback: Option<String>) -> Result<Option<Box<PostgresConfig>>, ConfigError> {
        let given = |url: &String| !url.trim().is_empty();
        let url = self.database_url.filter(given).or_else(|| fallback.filter(given));
        Ok(url.map(|url| PostgresConfig::parse(&url)).transpose()?.map(Box::new))
    }
}

impl AccessArgs {
    fn keys(&self) -> Result<Option<Arc<Keys>>, ConfigError> {
        let expected = Expected { audience: self.jwt_audience.clone(), issuer: self.jwt_issuer.clone() };
        if !self.jwt_key.is_empty() {
            return Ok(Some(Arc::new(Keys::read(&self.jwt_key, expected)?)));
        }
        match (expected.audience, expected.issuer) {
            (None, None) => Ok(None),
            (Some(_), _) => Err(ConfigError::NoKeys("--jwt-audience")),
            (None, Some(_)) => Err(ConfigError::NoKeys("--jwt-issuer")),
        }
    }
}

impl ServeArgs {
    fn into_config(self, database_url: Option<String>) -> Result<Config, ConfigError> {
        let cores = self.cores.map_or_else(processors, NonZeroU16::get);
        let subscriptions_max = self.limits.max_subscriptions.get();
        if subscriptions_max > u32::MAX as usize {
            return Err(ConfigError::Subscriptions(subscriptions_max));
        }
        if self.send_queue_bytes.get() < 4096 {
            return Err(ConfigError::QueueBytes(self.send_queue_bytes.get()));
        }
        let keys = self.access.keys()?;
        let listen = listen_address(&self.listen, self.allow_anonymous || keys.is_some())?;
        Ok(Config {
            listen,
            tls: self.tls.into_config()?,
            store: match self.database.postgres(database_url)? {
                Some(database) => StoreConfig::Postgres(database),
                None => StoreConfig::Embedded(self.data_dir),
            },
            cores,
            shards: self.shards.map_or(usize::from(cores), NonZeroUsize::get),
            gather_max: Duration::from_millis(self.gather_ms.into()),
            drain: Duration::from_secs(self.drain_seconds.into()),
            admission: self.limits.admission(),
            http: self.limits.http(),
            limits: self.limits.connection(SendQueueLimits {
                frames_max: self.send_queue_frames.get(),
                bytes_max: self.send_queue_bytes.get(),
                policy: self.slow_consumer.into(),
            }),
            keys,
            allowed_origins: AllowedOrigins::new(self.access.allowed_origin).map_err(ConfigError::Origin)?.into(),
        })
    }
}

fn processors() -> u16 {
    available_parallelism().map_or(1, |processors| u16::try_from(processors.get()).unwrap_or(u16::MAX))
}

fn listen_address(text: &str, may_be_public: bool) -> Result<SocketAddr, ConfigError> {
    let address = socket_address(text).ok_or_else(|| ConfigError::Listen(text.to_owned()))?;
    if !may_be_public && !address.ip().to_canonical().is_loopback() {
        return Err(ConfigError::Public(address));
    }
    Ok(address)
}

fn socket_address(text: &str) -> Option<SocketAddr> {
    text.to_socket_addrs().ok()?.next()
}

const _: () = assert!(
    Product::JSON_BYTES_MAX <= 1024 * 1024,
    "the default of --send-queue-bytes holds the largest product's change"
);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    fn task(args: &[&str], database_url: Option<&str>) -> Result<Task, ConfigError> {
        let cli = Cli::try_parse_from([&["rowcast"], args].concat()).unwrap();
        cli.into_task(database_url.map(str::to_owned))
    }

    fn config(args: &[&str]) -> Config {
        match task(args, None) {
            Ok(Task::Serve(config)) => config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_option_has_a_variable_and_help() {
        let command = Cli::command();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            for option in
                command.get_arguments().filter(|option| !["help", "version"].contains(&option.get_id().as_str()))
            {
                let name = option.get_id().as_str();
                let variable = option.get_env().unwrap_or_else(|| panic!("{name} has no variable"));
                assert_eq!(*variable, *format!("ROWCAST_{}", name.to_uppercase()));
                assert!(option.get_help().is_some(), "{name} has no help");
            }
        }
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default_and_takes_the_same_options() {
        for args in [&["--cores", "3"][..], &["serve", "--cores", "3"]] {
            let config = config(args);
            assert_eq!((config.cores, config.shards), (3, 3));
            assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
            assert!(matches!(config.store, StoreConfig::Embedded(dir) if dir == Path::new("rowcast-data")));
            assert_eq!(config.limits.subscriptions_max, 100_000);
            assert_eq!(config.limits.queue.policy, SlowConsumerPolicy::Conflate);
        }
    }

    #[test]
    fn a_public_address_must_be_meant() {
        let public = |args: &[&str]| task(args, None).map(|_| ());
        for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            assert!(matches!(public(&["--listen", address]), Err(ConfigError::Public(_))), "{address}");
            assert!(public(&["--listen", address, "--allow-anonymous"]).is_ok());
        }
        for address in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "localhost:80"] {
            assert!(public(&["--listen", address]).is_ok(), "{address}");
        }
        for wrong in ["", "8080", "127.0.0.1", "127.0.0.1:99999", ":80x"] {
            assert!(matches!(public(&["--listen", wrong]), Err(ConfigError::Listen(text)) if text == wrong), "{wrong}");
        }
    }

    #[test]
    fn the_option_wins_over_database_url_and_an_empty_one_is_none() {
        let store = |args: &[&str], url| match task(args, url) {
            Ok(Task::Serve(Config { store: StoreConfig::Postgres(database), .. })) => database.to_string(),
            Ok(Task::Serve(Config { store: StoreConfig::Embedded(dir), .. })) => dir.display().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(store(&["--database-url", "postgres://u@a/d"], Some("postgres://u@b/d")), "a:5432/d");
        assert_eq!(store(&[], Some("postgres://u@a/d")), "a:5432/d");
        assert_eq!(store(&[], Some("")), "rowcast-data");
        assert!(matches!(task(&["migrate"], None), Err(ConfigError::NoDatabase)));
        assert!(matches!(task(&["migrate"], Some("postgres://u@a/d")), Ok(Task::Migrate(_))));
        assert!(matches!(task(&[], Some("mysql://u@a/d")), Err(ConfigError::Database(_))));
    }

    #[test]
    fn https_needs_both_files_and_the_redirect_needs_https() {
        let tls = config(&["--tls-cert", "c", "--tls-key", "k", "--redirect-listen", "0.0.0.0:80"]).tls.unwrap();
        assert_eq!(tls.files, TlsFiles { certificate: "c".into(), key: "k".into() });
        assert_eq!(tls.redirect_listen, Some("0.0.0.0:80".parse().unwrap()));
        assert_eq!(tls.handshake_timeout, Duration::from_secs(10));
        assert!(config(&[]).tls.is_none());
        for args in [&["--tls-cert", "c"][..], &["--tls-key", "k"], &["--redirect-listen", "127.0.0.1:80"]] {
            assert!(Cli::try_parse_from([&["rowcast"], args].concat()).is_err(), "{args:?}");
        }
        let wrong = task(&["--tls-cert", "c", "--tls-key", "k", "--redirect-listen", "80"], None);
        assert!(matches!(wrong, Err(ConfigError::RedirectListen(text)) if text == "80"));
    }

    #[test]
    fn a_certificate_is_for_this_machine_unless_hosts_are_named() {
        let certify = |args: &[&str]| match task(args, None) {
            Ok(Task::Certify(config)) => config,
            other => panic!("{other:?}"),
        };
        assert_eq!(certify(&["cert"]).hosts, ["localhost", "127.0.0.1", "::1"]);
        let named = certify(&["cert", "--host", "a.example", "--host", "b.example", "--out", "certs", "--force"]);
        let hosts = ["a.example", "b.example"].map(str::to_owned).to_vec();
        assert_eq!(named, CertConfig { hosts, dir: "certs".into(), force: true });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for args in [
            &["--cores", "0"][..],
            &["--shards", "0"],
            &["--max-connections", "-1"],
            &["--slow-consumer", "wait"],
            &["--log-format", "xml"],
            &["--send-queue-frames", "0"],
            &["--drain-seconds", "-1"],
            &["--max-http-sockets", "0"],
            &["--header-timeout-seconds", "0"],
            &["--max-header-bytes", "1023"],
            &["--max-body-bytes", "1048577"],
            &["--max-message-bytes", "1"],
        ] {
            assert!(Cli::try_parse_from([&["rowcast"], args].concat()).is_err(), "{args:?}");
        }
        assert!(matches!(task(&["--send-queue-bytes", "1"], None), Err(ConfigError::QueueBytes(1))));
    }
}
