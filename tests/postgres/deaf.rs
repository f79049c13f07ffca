//! Ways in which a source hears nothing while it seems alive, and ways in which it hears what is not for it.

use std::time::Duration;

use rowcast::source::Obstacle;
use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::migrate;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Changes, Fixture, PATIENCE, VIGILANT, insert_sql, number_of, until};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Cluster, connect};

#[tokio::test]
async fn a_proxy_that_drops_notifications_is_found_at_the_start() {
    let Fixture { database, .. } = Fixture::new().await;
    let bouncer = PgBouncer::pooling_transactions(Cluster::shared());
    let config = PostgresConfig::parse(&bouncer.url_of(database.url())).unwrap();
    let mut changes = Changes::deaf(&config, VIGILANT);
    changes.until_obstacle(Some(Obstacle::Deaf)).await;
    // Nothing was begun that this would end.
    let none = timeout(Duration::ZERO, changes.source.next()).await;
    assert!(none.is_err(), "{none:?}");
}

#[tokio::test]
async fn triggers_that_are_off_are_a_gap_until_they_are_on_and_a_new_epoch_then() {
    let Fixture { database, config, .. } = Fixture::new().await;
    let client = database.connect().await;
    let mut changes = Changes::deaf(&config, VIGILANT);
    let before = changes.began().await;
    client.batch_execute("ALTER TABLE products DISABLE TRIGGER \"00_rowcast\"").await.unwrap();
    changes.gap().await;
    assert_eq!(changes.health.obstacle(), Some(Obstacle::Triggers));
    client.batch_execute(&insert_sql(1)).await.unwrap();
    client.batch_execute("ALTER TABLE products ENABLE TRIGGER \"00_rowcast\"").await.unwrap();
    assert_ne!(changes.began().await, before);
    changes.until_obstacle(None).await;
    client.batch_execute("DROP TRIGGER zz_rowcast ON products").await.unwrap();
    changes.gap().await;
    changes.until_obstacle(Some(Obstacle::Triggers)).await;
}

#[tokio::test]
async fn a_writer_that_replicates_is_heard() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&format!("SET session_replication_role = replica; {}", insert_sql(1))).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 1);
}

#[tokio::test]
async fn a_row_that_a_policy_hides_from_the_triggers_owner_is_told() {
    let Fixture { database, .. } = Fixture::new().await;
    let owner = database.connect().await;
    owner
        .batch_execute(
            "DROP ROLE IF EXISTS subject; CREATE ROLE subject LOGIN; \
             ALTER TABLE products OWNER TO subject; ALTER TABLE rowcast_stream OWNER TO subject; \
             ALTER TABLE product_tombstones OWNER TO subject; ALTER TABLE oversize_changes OWNER TO subject; \
             ALTER SEQUENCE product_versions OWNER TO subject; ALTER FUNCTION product_before() OWNER TO subject; \
             ALTER FUNCTION product_after() OWNER TO subject; \
             ALTER TABLE products ENABLE ROW LEVEL SECURITY; ALTER TABLE products FORCE ROW LEVEL SECURITY; \
             CREATE POLICY hides ON products FOR SELECT USING (product_id < 0); \
             CREATE POLICY writes ON products FOR INSERT WITH CHECK (true)",
        )
        .await
        .unwrap();
    let config = PostgresConfig::parse(database.url()).unwrap();
    let mut changes = Changes::of(&config).await;
    let writer = connect(&database.url_as("subject")).await;
    writer.batch_execute(&insert_sql(1)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 1);
    // A server whose reads a policy would thin out has errors, and no absences.
    let hidden =
        rowcast::store::postgres::PostgresStore::new(&PostgresConfig::parse(&database.url_as("subject")).unwrap());
    hidden.load(&[super::subject(1)], 1).await.unwrap_err();
}

#[tokio::test]
async fn what_a_login_notifies_or_makes_triggers_do_reaches_nobody() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let owner = database.connect().await;
    owner
        .batch_execute(
            "DROP ROLE IF EXISTS forger; CREATE ROLE forger LOGIN; GRANT CREATE ON SCHEMA public TO forger; \
             GRANT INSERT, DELETE ON products TO forger",
        )
        .await
        .unwrap();
    owner.batch_execute(&insert_sql(1)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 1);
    let forger = connect(&database.url_as("forger")).await;
    let message = r#"{"action":"UPDATE","version":9000000000000000,"product":{"productId":1,"manufacturer":""}}"#;
    forger.execute("SELECT pg_notify('product_change', $1)", &[&message]).await.unwrap();
    for attempt in [
        "SELECT channel FROM rowcast_stream",
        "SELECT product_notify('UPDATE', 9000000000000000, ROW(1, '', '', 1, '', 1))",
        "SELECT rowcast_renew_epoch(1, 1)",
        "CREATE TABLE mine (product_id bigint); CREATE TRIGGER t BEFORE TRUNCATE ON mine EXECUTE FUNCTION product_before_truncate()",
    ] {
        let refusal = forger.batch_execute(attempt).await.unwrap_err();
        assert_eq!(
            refusal.code(),
            Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE),
            "{attempt}: {refusal:?}"
        );
    }
    let told = "SELECT string_agg(prosrc, '') FROM pg_proc";
    let channel: String = owner.query_one("SELECT channel FROM rowcast_stream", &[]).await.unwrap().get(0);
    let texts: String = forger.query_one(told, &[]).await.unwrap().get(0);
    assert!(!texts.contains(&channel));
    forger.batch_execute(&insert_sql(2)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 2, "a writer needs no right but those on products");
}

#[tokio::test]
async fn the_changes_of_another_schema_stay_there() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute("CREATE SCHEMA other").await.unwrap();
    let config = PostgresConfig::parse(&format!("{}?options=-c%20search_path%3Dother", database.url())).unwrap();
    migrate(&config).await.unwrap();
    let mut others = Changes::of(&config).await;
    client.batch_execute(&insert_sql(1).replace("INTO products", "INTO other.products")).await.unwrap();
    client.batch_execute(&insert_sql(2)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 2);
    assert_eq!(number_of(&others.next().await), 1);
}

#[tokio::test]
async fn a_session_of_an_older_release_holds_the_migration_up() {
    use rowcast::store::postgres::migrate::{MIGRATIONS, MigrateError, apply};
    let database = Cluster::shared().database().await;
    let config = PostgresConfig::parse(database.url()).unwrap();
    apply(&config, &MIGRATIONS[..2]).await.unwrap();
    let older = connect(&format!("{}?application_name=rowcast", database.url())).await;
    older.batch_execute("LISTEN product_change").await.unwrap();
    let refusal = migrate(&config).await.unwrap_err();
    assert!(matches!(refusal, MigrateError::InUse { .. }), "{refusal:?}");
    let session = super::session_id(&older).await.to_string();
    for part in ["older release", &session, "stop it first"] {
        assert!(refusal.to_string().contains(part), "{refusal}");
    }
    drop(older);
    let client = database.connect().await;
    until(
        &client,
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rowcast'",
    )
    .await;
    let left: Vec<&str> = MIGRATIONS[2..].iter().map(|migration| migration.name).collect();
    assert_eq!(migrate(&config).await.unwrap(), left);
}

/// The role of a server keeps its rights over the migration.
#[tokio::test]
async fn a_server_of_limited_rights_goes_on_after_the_migration() {
    use rowcast::store::postgres::migrate::{MIGRATIONS, apply};
    let database = Cluster::shared().database().await;
    let config = PostgresConfig::parse(database.url()).unwrap();
    apply(&config, &MIGRATIONS[..2]).await.unwrap();
    let owner = database.connect().await;
    owner
        .batch_execute(
            "DROP ROLE IF EXISTS limited; CREATE ROLE limited LOGIN; GRANT SELECT ON rowcast_migrations TO limited; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON products TO limited; \
             GRANT SELECT, UPDATE, DELETE ON product_tombstones, oversize_changes TO limited; \
             GRANT SELECT ON SEQUENCE product_versions TO limited",
        )
        .await
        .unwrap();
    migrate(&config).await.unwrap();
    let limited = PostgresConfig::parse(&database.url_as("limited")).unwrap();
    let mut changes = Changes::vigilant(&limited).await;
    owner.batch_execute(&insert_sql(1)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 1);
    owner
        .batch_execute("SELECT setval('product_versions', 1, false); UPDATE products SET version = version")
        .await
        .unwrap();
    changes.next().await;
    owner.batch_execute("REVOKE SELECT ON rowcast_stream FROM limited").await.unwrap();
    loop {
        match changes.event().await {
            rowcast::model::event::SourceEvent::Gap => break,
            rowcast::model::event::SourceEvent::Began(_) => {}
            event => panic!("{event:?}"),
        }
    }
    changes.until_obstacle(Some(Obstacle::Rights)).await;
}

/// Forwards between a server and its database until it is told to stall: then it takes nothing and says nothing.
async fn stalling_proxy(port: u16) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let (stall, stalled) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::spawn(forward(from_client, to_server, stalled.clone()));
            tokio::spawn(forward(from_server, to_client, stalled.clone()));
        }
    });
    (own, stall)
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut stalled: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    // A connection that was open when it stalled never goes on.
    while !*stalled.borrow() {
        tokio::select! {
            read = from.read(&mut bytes) => match read? {
                0 => return to.shutdown().await,
                read => to.write_all(&bytes[..read]).await?,
            },
            _ = stalled.changed() => {}
        }
    }
    std::future::pending().await
}

#[tokio::test]
async fn a_half_open_connection_is_found_and_its_gap_told() {
    let Fixture { database, .. } = Fixture::new().await;
    let (port, stall) = stalling_proxy(Cluster::shared().port()).await;
    let url = database.url().replace(&format!(":{}/", Cluster::shared().port()), &format!(":{port}/"));
    let mut changes = Changes::vigilant(&PostgresConfig::parse(&url).unwrap()).await;
    stall.send(true).unwrap();
    changes.gap().await;
    assert_eq!(changes.health.obstacle(), Some(Obstacle::Connection));
    stall.send(false).unwrap();
    changes.began().await;
    let client = database.connect().await;
    client.batch_execute(&insert_sql(1)).await.unwrap();
    timeout(PATIENCE, changes.next()).await.unwrap();
}

#[tokio::test]
async fn time_limits_of_the_role_end_no_listener() {
    let Fixture { database, .. } = Fixture::new().await;
    let owner = database.connect().await;
    owner
        .batch_execute(
            "DROP ROLE IF EXISTS hurried; CREATE ROLE hurried LOGIN SUPERUSER; \
             ALTER ROLE hurried SET idle_session_timeout = 50; ALTER ROLE hurried SET statement_timeout = 1; \
             ALTER ROLE hurried SET idle_in_transaction_session_timeout = 1",
        )
        .await
        .unwrap();
    let config = PostgresConfig::parse(&database.url_as("hurried")).unwrap();
    let mut changes = Changes::vigilant(&config).await;
    let session = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'rowcast listener' AND usename = 'hurried'";
    let before: i32 = owner.query_one(session, &[]).await.unwrap().get(0);
    // Longer than the limit of an idle session.
    until(&owner, &format!("SELECT now() - backend_start > interval '1 s' FROM pg_stat_activity WHERE pid = {before}"))
        .await;
    owner.batch_execute(&insert_sql(1)).await.unwrap();
    assert_eq!(number_of(&changes.next().await), 1);
    assert_eq!(owner.query_one(session, &[]).await.unwrap().get::<_, i32>(0), before, "the same session");
}
