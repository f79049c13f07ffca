//! The database goes away and comes back.

use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::migrate;
use rowcast::store::postgres::{POOL_CONNECTIONS_MAX, PostgresStore};
use rowcast::store::{Precondition, StoreError};

use rowcast::model::row::Row;
use tokio_postgres::Client;

use super::epochs::renewed;
use super::{
    Changes, Fixture, Products, VIGILANT, id, insert_sql, macbook, number_of, signal, stored_version, until,
    until_store_is_blocked,
};
use crate::support::postgres::{Cluster, connect};

fn assert_unavailable<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}

#[tokio::test]
async fn requests_fail_while_it_is_down_and_work_after() {
    let cluster = Cluster::start();
    let Fixture { store, database, mut changes, .. } = Fixture::in_cluster(&cluster).await;
    store.insert_product(macbook(1), Precondition::default()).await.unwrap();
    changes.next().await;
    for crash in [false, true] {
        if crash {
            cluster.crash();
        } else {
            cluster.stop();
        }
        changes.gap().await;
        assert_unavailable(&store.check().await);
        assert_unavailable(&store.get(id(1)).await);
        assert_unavailable(&store.list("products", None, 1, 1).await);
        assert_unavailable(&store.insert_product(macbook(2), Precondition::default()).await);
        assert_unavailable(&store.put_product(macbook(2), Precondition::default()).await);
        assert_unavailable(&store.patch(id(1), rowcast::model::row::Row::encoded("{}"), Precondition::default()).await);
        assert_unavailable(&store.delete(id(1), Precondition::default()).await);

        cluster.start_again();
        changes.began().await;
        store.check().await.unwrap();
        assert_eq!(store.get(id(1)).await.unwrap().row, Row::from(&macbook(1)));
        let number = if crash { 11 } else { 10 };
        database.connect().await.batch_execute(&insert_sql(number)).await.unwrap();
        assert_eq!(number_of(&changes.next().await), number);
    }
}

/// Sequences may go on further than they were drawn from, that of the versions and others.
#[tokio::test]
async fn a_crash_is_no_new_epoch() {
    let cluster = Cluster::start();
    let Fixture { database, config, changes, .. } = Fixture::in_cluster(&cluster).await;
    drop(changes);
    let client = database.connect().await;
    client.batch_execute(&format!("SELECT setval('product_versions', 500); {}", insert_sql(1))).await.unwrap();
    let mut changes = Changes::vigilant(&config).await;
    let below = "SELECT setval('product_versions', 10); UPDATE products SET units_available = 7";
    client.batch_execute(below).await.unwrap();
    let epoch = renewed(&mut changes).await;
    cluster.crash();
    changes.gap().await;
    cluster.start_again();
    assert_eq!(changes.began().await, epoch);
}

/// Returns once the listener has looked at the database, and concluded from it.
async fn until_looked(client: &Client) {
    // The second look begins after the first is concluded from.
    for _ in 0..2 {
        let now: String = client.query_one("SELECT clock_timestamp()::text", &[]).await.unwrap().get(0);
        let looked = format!(
            "SELECT coalesce(bool_or(query_start > '{now}'), false) FROM pg_stat_activity \
             WHERE application_name = 'rowcast server' AND query LIKE '%pg_notification_queue_usage%'"
        );
        until(client, &looked).await;
    }
}

/// The same row gets the same version again before the listener is back.
#[tokio::test]
async fn files_of_an_earlier_time_begin_an_epoch() {
    let cluster = Cluster::start();
    let Fixture { database, config, changes, store, .. } = Fixture::in_cluster(&cluster).await;
    drop((changes, store));
    database.connect().await.batch_execute(&insert_sql(1)).await.unwrap();
    cluster.stop();
    cluster.save();
    cluster.start_again();
    let mut changes = Changes::deaf(&config, VIGILANT);
    let epoch = changes.began().await;
    let client = database.connect().await;
    client.batch_execute("UPDATE products SET units_available = 7").await.unwrap();
    let version = changes.next().await.version;
    client.batch_execute("CREATE TABLE more AS SELECT generate_series(1, 10000)").await.unwrap();
    until_looked(&client).await;
    cluster.stop();
    changes.gap().await;
    cluster.put_back();
    cluster.do_alone(&database, "UPDATE products SET units_available = 8");
    cluster.start_again();
    assert_ne!(changes.began().await, epoch);
    assert_eq!(stored_version(&database.connect().await, 1).await, version);
}

#[tokio::test]
async fn a_standby_that_is_promoted_begins_an_epoch() {
    let cluster = Cluster::start();
    let Fixture { database, config, changes, store, .. } = Fixture::in_cluster(&cluster).await;
    drop((changes, store));
    let mut changes = Changes::deaf(&config, VIGILANT);
    let epoch = changes.began().await;
    cluster.stop();
    changes.gap().await;
    cluster.become_standby();
    cluster.start_again();
    database.connect().await.batch_execute("SELECT pg_promote()").await.unwrap();
    let renewed = changes.began().await;
    assert_ne!(renewed, epoch);
    // It is the same for who comes later.
    drop(changes);
    assert_eq!(Changes::deaf(&config, VIGILANT).began().await, renewed);
}

/// Both were written equally often since the one was made from the other.
#[tokio::test]
async fn a_copy_that_takes_the_place_of_the_database_begins_an_epoch() {
    let cluster = Cluster::shared();
    let database = cluster.database().await;
    let config = PostgresConfig::parse(database.url()).unwrap();
    migrate(&config).await.unwrap();
    database.connect().await.batch_execute(&insert_sql(1)).await.unwrap();
    let (server, name) = database.url().rsplit_once('/').unwrap();
    let copy = format!("{name}_copy");
    let admin = connect(&format!("{server}/postgres")).await;
    // A database that is connected to can neither be copied nor renamed.
    let alone = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname IN ('{name}', '{copy}')");
    until(&admin, &alone).await;
    admin.batch_execute(&format!("CREATE DATABASE {copy} TEMPLATE {name}")).await.unwrap();

    let mut changes = Changes::deaf(&config, VIGILANT);
    let epoch = changes.began().await;
    database.connect().await.batch_execute("UPDATE products SET units_available = 7").await.unwrap();
    let version = changes.next().await.version;
    let other = connect(&format!("{server}/{copy}")).await;
    other.batch_execute("UPDATE products SET units_available = 8").await.unwrap();
    drop(other);
    let close = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    for statement in close.split("; ") {
        admin.batch_execute(statement).await.unwrap();
    }
    changes.gap().await;
    until(&admin, &alone).await;
    for (from, to) in [(name, &*format!("{name}_old")), (&*copy, name)] {
        admin.batch_execute(&format!("ALTER DATABASE {from} RENAME TO {to}")).await.unwrap();
    }
    let renewed = changes.began().await;
    assert_ne!(renewed, epoch);
    assert_eq!(stored_version(&database.connect().await, 1).await, version);
    // It is the same for who comes later.
    drop(changes);
    assert_eq!(Changes::deaf(&config, VIGILANT).began().await, renewed);
}

#[tokio::test]
async fn a_request_that_finds_all_connections_taken_is_refused() {
    let Fixture { store, database, .. } = Fixture::new().await;
    let holder = database.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE products").await.unwrap();
    let requests: Vec<_> = (0..POOL_CONNECTIONS_MAX)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.get(id(1)).await })
        })
        .collect();
    until_store_is_blocked(&database, i64::try_from(POOL_CONNECTIONS_MAX).unwrap()).await;
    assert_unavailable(&store.check().await);
    holder.batch_execute("COMMIT").await.unwrap();
    for request in requests {
        request.await.unwrap().unwrap_err();
    }
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_does_not_answer_is_given_up() {
    let cluster = Cluster::start();
    let Fixture { store, database, .. } = Fixture::in_cluster(&cluster).await;
    let client = database.connect().await;
    store.check().await.unwrap();
    let last = "SELECT pid FROM pg_stat_activity WHERE application_name = 'rowcast server' AND query = 'SELECT 1'";
    let session_id: i32 = client.query_one(last, &[]).await.unwrap().get(0);
    signal(session_id, "STOP");
    assert_unavailable(&store.check().await);
    store.check().await.unwrap();
    signal(session_id, "CONT");
}

#[tokio::test]
async fn a_refusal_is_told_without_the_password() {
    let cluster = Cluster::shared();
    for url in [
        format!("postgres://nobody:s3cret@127.0.0.1:{}/postgres", cluster.port()),
        format!("postgres://postgres:s3cret@127.0.0.1:{}/no_such_database", cluster.port()),
        "postgres://postgres:s3cret@127.0.0.1:1/postgres".to_owned(),
    ] {
        let config = PostgresConfig::parse(&url).unwrap();
        let error = PostgresStore::new(&config).check().await.unwrap_err().to_string();
        assert!(error.contains(&config.to_string()) && !error.contains("s3cret"), "{error}");
        let error = rowcast::store::postgres::migrate::migrate(&config).await.unwrap_err().to_string();
        assert!(error.contains(&config.to_string()) && !error.contains("s3cret"), "{error}");
    }
}
