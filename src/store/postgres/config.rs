//! The database and the way to it: [`PostgresConfig`], parsed from the database URL.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use super::error::ConfigError;
use super::tls::{Roots, TlsMode, TlsStream, connector};
use super::url::take_tls_options;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time without any acknowledgement after which the connection is dead (`TCP_USER_TIMEOUT`, tcp(7)).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(8);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// The names that the connections give themselves where the URL has none.
const NAME: &str = "rowcast server";
const LISTENER_NAME: &str = "rowcast listener";
const PORT_DEFAULT: u16 = 5432;

/// A database to connect to. Neither `Debug` nor `Display` shows the password; `Display` is the name for messages and
/// logs, `host:port/dbname`.
#[derive(Clone)]
pub struct PostgresConfig {
    config: Config,
    connector: MakeRustlsConnect,
    name: String,
}

impl PostgresConfig {
    /// Reads a database URL, in either form that libpq knows
    /// (<https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-CONNSTRING>).
    ///
    /// # Errors
    /// A sentence that names the fault of the URL or of the certificates that it names.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let (url, tls) = take_tls_options(url)?;
        let mut config: Config = url.parse().map_err(|_| ConfigError::Unreadable)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ConfigError::NoHost);
        }
        let mode = TlsMode::parse(tls.mode.as_deref().unwrap_or("prefer")).ok_or(ConfigError::SslMode)?;
        let roots = tls.roots.map_or(Roots::System, |path| Roots::parse(&path));
        config.ssl_mode(mode.negotiation());
        Ok(Self { connector: connector(mode, &roots)?, name: name(&config), config: with_defaults(config) })
    }

    /// Opens a connection of its own, outside of any pool.
    pub(crate) async fn connect(&self) -> Result<(Client, Connection<Socket, TlsStream>), tokio_postgres::Error> {
        self.config.connect(self.connector.clone()).await
    }

    /// Likewise, under the name of a listener.
    pub(crate) async fn connect_listener(
        &self,
    ) -> Result<(Client, Connection<Socket, TlsStream>), tokio_postgres::Error> {
        let mut config = self.config.clone();
        if config.get_application_name() == Some(NAME) {
            config.application_name(LISTENER_NAME);
        }
        config.connect(self.connector.clone()).await
    }

    /// Returns the role to connect as.
    pub(crate) fn role(&self) -> String {
        self.config.get_user().unwrap_or("the_server").to_owned()
    }

    /// Returns the settings and the TLS that a pool connects with.
    pub(super) fn for_pool(&self) -> (Config, MakeRustlsConnect) {
        (self.config.clone(), self.connector.clone())
    }

    /// Returns the statements that every connection is given first, less those for settings that the URL names
    /// (<https://www.postgresql.org/docs/15/runtime-config-client.html>): every statement ends after `statement_timeout`
    /// (zero: none), whatever the role is set to; a session may be idle, but not within a transaction; and a row that a
    /// policy hides is an error, not an absence. Startup parameters would say the same, but `PgBouncer` refuses those that
    /// it does not know (<https://www.pgbouncer.org/config.html#ignore_startup_parameters>).
    pub(crate) fn settings(&self, statement_timeout: Duration) -> String {
        let options = self.config.get_options().unwrap_or_default();
        let is_free =
            |name: &&str| !options.split([' ', '=']).any(|word| word == *name || word.strip_prefix("-c") == Some(name));
        let timeout_ms = statement_timeout.as_millis();
        let timeouts = [("statement_timeout", timeout_ms), ("idle_in_transaction_session_timeout", 60_000)];
        let mut settings = vec!["SET row_security = off".to_owned()];
        settings
            .extend(timeouts.iter().filter(|(name, _)| is_free(name)).map(|(name, ms)| format!("SET {name} = {ms}")));
        // Not every release of Postgres has these.
        let newer = ["idle_session_timeout", "transaction_timeout"].into_iter().filter(is_free);
        settings.extend(
            newer.map(|name| format!("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = '{name}'")),
        );
        settings.join("; ")
    }
}

impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresConfig").field(&self.name).finish()
    }
}

fn with_defaults(mut config: Config) -> Config {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_idle(KEEPALIVE_IDLE.min(config.get_keepalives_idle()));
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_application_name().is_none() {
        config.application_name(NAME);
    }
    config
}

fn name(config: &Config) -> String {
    let hosts: Vec<Cow<'_, str>> = match config.get_hosts() {
        [] => config.get_hostaddrs().iter().map(|address| address.to_string().into()).collect(),
        hosts => hosts.iter().map(host_name).collect(),
    };
    let port = config.get_ports().first().unwrap_or(&PORT_DEFAULT);
    let dbname = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{}:{port}/{dbname}", hosts.join(","))
}

fn host_name(host: &Host) -> Cow<'_, str> {
    match host {
        Host::Tcp(name) => name.into(),
        Host::Unix(directory) => directory.to_string_lossy(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_named_without_the_password() {
        for (url, name) in [
            ("postgres://ann:s3cret@db.example/shop", "db.example:5432/shop"),
            (
                "postgresql://ann:s3c%3Fret@db.example:6000/shop?sslmode=disable&connect_timeout=3",
                "db.example:6000/shop",
            ),
            ("postgres://ann:s3?cret@db.example/shop?sslmode=require", "db.example:5432/shop"),
            ("postgres://ann@db.example", "db.example:5432/ann"),
            ("postgres://ann:s3cret@one,two/shop", "one,two:5432/shop"),
            ("host=/run/postgresql user=ann dbname=shop", "/run/postgresql:5432/shop"),
            (
                "host = db.example  user=ann password='s3cret \\' x' dbname=shop sslmode = 'disable'",
                "db.example:5432/shop",
            ),
            ("hostaddr=127.0.0.1 user=ann dbname=shop", "127.0.0.1:5432/shop"),
        ] {
            let config = PostgresConfig::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(config.to_string(), name);
            assert!(!format!("{config:?}").contains("s3c"), "{config:?}");
        }
    }

    #[test]
    fn the_password_reaches_the_database_as_it_was_given() {
        for (url, password) in [
            ("postgres://ann:s3?c%26ret@h/d?sslmode=disable&application_name=a", "s3?c&ret"),
            ("host=h user=ann sslmode=disable password='s3\\'c ret'", "s3'c ret"),
            ("host=h user=ann password=s3\\ cret sslmode=disable", "s3 cret"),
        ] {
            let config = PostgresConfig::parse(url).unwrap();
            assert_eq!(config.config.get_password(), Some(password.as_bytes()), "{url}");
        }
    }

    #[test]
    fn a_bad_url_gets_one_sentence_that_does_not_quote_it() {
        for (url, complaint) in [
            ("", "names no host"),
            ("postgres://", "names no host"),
            ("user=ann password=s3cret", "names no host"),
            ("mysql://ann:s3cret@h/d", "cannot be read"),
            ("postgres://ann:s3cret@h:port/d", "cannot be read"),
            ("postgres://ann:s3cret@h/d?s3cret=1", "cannot be read"),
            ("host=h password='s3cret", "cannot be read"),
            ("host=h s3cret", "cannot be read"),
            ("postgres://ann:s3cret@h/d?sslmode=on", "sslmode"),
            ("postgres://ann:s3cret@h/d?sslmode=allow", "sslmode"),
            ("postgres://ann:s3cret@h/d?sslmode=verify-ca&sslrootcert=/no/such.pem", "/no/such.pem"),
        ] {
            let error = PostgresConfig::parse(url).unwrap_err().to_string();
            assert!(error.contains(complaint) && !error.contains("s3cret"), "{url}: {error}");
        }
    }

    #[test]
    fn the_settings_yield_to_the_options_of_the_url() {
        for (url, own, foreign) in [
            ("postgres://h/d", vec!["SET statement_timeout = 4000;", "'idle_session_timeout'"], None),
            ("postgres://h/d?options=-c%20search_path%3Dshop", vec!["SET statement_timeout = 4000;"], None),
            ("postgres://h/d?options=-c%20statement_timeout%3D7", vec!["row_security"], Some("SET statement_timeout")),
            ("postgres://h/d?options=-cstatement_timeout%3D7", vec!["idle_in_"], Some("SET statement_timeout")),
            ("postgres://h/d?options=-c%20idle_session_timeout%3D7", vec!["= 'transaction_t"], Some("idle_session_")),
        ] {
            let settings = PostgresConfig::parse(url).unwrap().settings(Duration::from_secs(4));
            assert!(own.iter().all(|part| settings.contains(part)), "{url}: {settings}");
            assert!(foreign.is_none_or(|part| !settings.contains(part)), "{url}: {settings}");
        }
    }
}
