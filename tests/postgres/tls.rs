//! Every `sslmode` against a server with TLS and one without.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::config::PostgresConfig;
use tempfile::TempDir;

use crate::support::postgres::{Cluster, ServerTls, connect};

/// A certificate authority, and its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    path: String,
}

impl Authority {
    fn new(directory: &TempDir, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let path = directory.path().join(format!("{name}.pem"));
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), path: path.to_str().unwrap().to_owned() }
    }

    /// A server that is called `localhost`, and nothing else.
    fn server(&self) -> ServerTls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        ServerTls { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// The outcome of connecting: `Ok(true)` for an encrypted connection, `Ok(false)` for a plain one, or the error.
async fn outcome(cluster: &Cluster, host: &str, options: &str) -> Result<bool, String> {
    let port = cluster.port();
    let url = format!("postgres://postgres@{host}:{port}/postgres?application_name=tls-test&{options}");
    let config = PostgresConfig::parse(&url).map_err(|error| error.to_string())?;
    let store = PostgresStore::new(&config);
    store.check().await.map_err(|error| error.to_string())?;
    // The pool keeps the connection open, for this to see.
    let observer = connect(&format!("postgres://postgres@127.0.0.1:{port}/postgres")).await;
    let query = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tls-test' \
                 ORDER BY backend_start DESC LIMIT 1";
    Ok(observer.query_one(query, &[]).await.unwrap().get(0))
}

#[tokio::test]
async fn each_mode_verifies_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, stranger) = (Authority::new(&directory, "ours"), Authority::new(&directory, "stranger"));
    let cluster = Cluster::start_with_tls(&ours.server());
    let trusting = |mode: &str| format!("sslmode={mode}&sslrootcert={}", ours.path);
    let trusting_another = |mode: &str| format!("sslmode={mode}&sslrootcert={}", stranger.path);

    assert_eq!(outcome(&cluster, "localhost", "sslmode=disable").await, Ok(false));
    assert_eq!(outcome(&cluster, "localhost", "sslmode=prefer").await, Ok(true));
    assert_eq!(outcome(&cluster, "localhost", "connect_timeout=5").await, Ok(true));
    assert_eq!(outcome(&cluster, "127.0.0.1", "sslmode=require").await, Ok(true));
    assert_eq!(outcome(&cluster, "127.0.0.1", &trusting("require")).await, Ok(true));
    assert_eq!(outcome(&cluster, "127.0.0.1", &trusting("verify-ca")).await, Ok(true));
    assert_eq!(outcome(&cluster, "localhost", &trusting("verify-full")).await, Ok(true));

    let refusals = [
        ("127.0.0.1", trusting("verify-full"), "not valid for name"),
        ("localhost", trusting_another("require"), "UnknownIssuer"),
        ("localhost", trusting_another("verify-ca"), "UnknownIssuer"),
        ("localhost", trusting_another("verify-full"), "UnknownIssuer"),
    ];
    for (host, options, reason) in refusals {
        let error = outcome(&cluster, host, &options).await.expect_err(&options);
        assert!(error.contains(reason), "{options}: {error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new(&directory, "ours");
    let cluster = Cluster::start();
    assert_eq!(outcome(&cluster, "127.0.0.1", "sslmode=prefer").await, Ok(false));
    for mode in ["require", "verify-ca", "verify-full"] {
        let options = format!("sslmode={mode}&sslrootcert={}", ours.path);
        let error = outcome(&cluster, "localhost", &options).await.expect_err(mode);
        assert!(error.contains("does not support TLS"), "{error}");
    }
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.pem");
    for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, text).unwrap();
        let url = format!("host=h sslmode=verify-full sslrootcert='{}'", path.display());
        let error = PostgresConfig::parse(&url).unwrap_err().to_string();
        assert!(error.contains("empty.pem"), "{error}");
    }
}
