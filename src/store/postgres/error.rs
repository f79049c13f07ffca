//! The faults of a database URL: [`ConfigError`].

/// The reason for which a database URL cannot be used. The text never quotes the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a URL that is understood.
    #[error(
        "the database URL cannot be read; it has the form postgres://user:password@host:port/dbname?option=value \
         or 'host=… dbname=…', with the options user, password, dbname, host, hostaddr, port, application_name, \
         options, sslmode, sslrootcert, sslnegotiation, channel_binding, connect_timeout, tcp_user_timeout, \
         keepalives, keepalives_idle, keepalives_interval, keepalives_retries, target_session_attrs and \
         load_balance_hosts"
    )]
    Unreadable,
    /// The URL does not say where the database is.
    #[error("the database URL names no host")]
    NoHost,
    /// An `sslmode` that is not one of libpq's.
    #[error("sslmode in the database URL must be disable, prefer, require, verify-ca or verify-full")]
    SslMode,
    /// The certificates to trust cannot be read.
    #[error("read the certificates to trust from {path}: {reason}")]
    RootCertificates {
        /// The file, or `the system`.
        path: String,
        /// The reason.
        reason: String,
    },
}
