//! A server whose connections go through `PgBouncer` in session mode.

use rowcast::store::Precondition;
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::migrate;

use super::{Products, macbook};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Cluster;
use crate::support::server::{TestServer, product_json};
use crate::support::socket::Socket;

#[tokio::test]
async fn a_server_works_through_it() {
    let database = Cluster::shared().database().await;
    let bouncer = PgBouncer::of(Cluster::shared());
    // It is ready once its store and its listener are.
    let server = TestServer::postgres(&bouncer.url_of(database.url()), &["--cores", "1"]).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe([1]).await;
    let version = server.request("PUT", "/products/1", Some(&product_json(1, 1))).await.version();
    assert_eq!(socket.next().await["version"], version);
    assert_eq!(server.get("/products/1").await.version(), version);
    let named = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name IN ('rowcast server', 'rowcast listener')";
    let named: i64 = database.connect().await.query_one(named, &[]).await.unwrap().get(0);
    assert!(named >= 2, "the pool and the listener: {named}");
}

/// Every setting of a connection as one that goes to the database itself has it.
#[tokio::test]
async fn its_connections_have_the_settings_of_direct_ones() {
    let database = Cluster::shared().database().await;
    migrate(&PostgresConfig::parse(database.url()).unwrap()).await.unwrap();
    let bouncer = PgBouncer::of(Cluster::shared());
    let owner = database.connect().await;
    // An insert writes down how its session is set, and answers the time that its statements have.
    owner
        .batch_execute(
            "CREATE TABLE seen (version bigint, name text, setting text); \
             CREATE OR REPLACE FUNCTION product_write(action text, bigint, text, text, bigint, text, presence boolean, \
             wanted bigint[], unwanted bigint[], OUT fault text, OUT is_new boolean, OUT written products) LANGUAGE sql AS $$ \
             INSERT INTO seen SELECT $2, name, setting FROM pg_settings; \
             SELECT NULL::text, true, ($2, $3, $4, $5, $6, setting::bigint)::products FROM pg_settings \
             WHERE name = 'statement_timeout' $$",
        )
        .await
        .unwrap();
    for (number, url) in [(1, database.url().to_owned()), (2, bouncer.url_of(database.url()))] {
        let store = PostgresStore::new(&PostgresConfig::parse(&url).unwrap());
        assert_eq!(store.insert_product(macbook(number), Precondition::default()).await.unwrap(), 5000, "{url}");
    }
    let differing = "SELECT name, direct.setting, bounced.setting FROM seen direct JOIN seen bounced USING (name) \
                     WHERE direct.version = 1 AND bounced.version = 2 AND direct.setting <> bounced.setting";
    let differing = owner.query(differing, &[]).await.unwrap();
    let differing: Vec<(String, String, String)> =
        differing.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert!(differing.is_empty(), "{differing:?}");
    let names = "SELECT setting FROM seen WHERE name = 'application_name'";
    assert!(owner.query(names, &[]).await.unwrap().iter().all(|row| row.get::<_, &str>(0) == "rowcast server"));
}
