//! Reads for the shards, and their barriers.

use rowcast::model::event::SourceEvent;
use rowcast::model::product::Product;
use rowcast::model::topic::{Subject, Topic};
use rowcast::store::postgres::PostgresStore;
use rowcast::store::postgres::config::PostgresConfig;
use rowcast::store::postgres::migrate::migrate;
use rowcast::store::{Found, Precondition, READ_BYTES_MAX, Read};

use super::{Changes, Fixture, Products, id, insert_sql, macbook, number_of, stored_version, subject, versioned};
use crate::support::postgres::Cluster;

/// The reads that a writer does not disturb.
const READS: u64 = 200;

/// Reads these products with the store of the listener, whose barriers it hears.
async fn load(changes: &Changes, ids: &[u64], barrier: u64) -> Read {
    let rows: Vec<Subject> = ids.iter().map(|&number| subject(number)).collect();
    changes.store.load(&rows, barrier).await.unwrap()
}

fn topic(number: u64) -> Topic {
    subject(number).topic()
}

#[tokio::test]
async fn a_read_has_rows_and_absences_and_its_barrier_comes_after_all_that_it_saw() {
    let Fixture { store, mut changes, .. } = Fixture::new().await;
    let any = Precondition::default;
    let inserted = store.insert_product(macbook(1), any()).await.unwrap();
    store.insert_product(macbook(2), any()).await.unwrap();
    let deleted = store.delete(id(2), any()).await.unwrap();
    let read = load(&changes, &[3, 1, 2], 77).await;
    let row = versioned(&macbook(1), inserted);
    let expected = [
        (topic(3), Found::Absent { version: 0 }),
        (topic(1), Found::Present(row)),
        (topic(2), Found::Absent { version: deleted }),
    ];
    assert_eq!(read, Read { found: expected.into(), left: Vec::new() });
    for _ in 0..3 {
        changes.next().await;
    }
    let event = changes.event().await;
    assert!(matches!(event, SourceEvent::Barrier(77)), "{event:?}");
}

#[tokio::test]
async fn the_barrier_of_another_server_is_not_heard() {
    let Fixture { database, config, mut changes, .. } = Fixture::new().await;
    PostgresStore::new(&config).load(&[subject(1)], 5).await.unwrap();
    changes.none_before_now(&database.connect().await).await;
}

#[tokio::test]
async fn a_read_under_writes_is_never_older_than_what_was_heard_before_its_barrier() {
    let Fixture { store, mut changes, .. } = Fixture::new().await;
    store.put_product(macbook(1), Precondition::default()).await.unwrap();
    let writer = tokio::spawn(async move {
        loop {
            store.put_product(macbook(1), Precondition::default()).await.unwrap();
        }
    });
    let mut heard = 0;
    for barrier in 1..=READS {
        let read = load(&changes, &[1], barrier).await;
        let [(_, Found::Present(row))] = &read.found[..] else { panic!("{read:?}") };
        loop {
            match changes.event().await {
                SourceEvent::Change(change) => heard = change.version,
                SourceEvent::Barrier(number) if number == barrier => break,
                event => panic!("{event:?}"),
            }
        }
        assert!(heard >= row.version, "a row of version {} before its change: {heard}", row.version);
    }
    writer.abort();
}

#[tokio::test]
async fn rows_above_the_bytes_of_a_read_are_left_and_a_larger_one_is_read_alone() {
    let Fixture { database, changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    let large = format!("repeat('m', {})", READ_BYTES_MAX * 2 / 3);
    let huge = format!("repeat('m', {})", READ_BYTES_MAX + 1);
    for (number, text) in [(1, &large), (2, &large), (3, &huge)] {
        client.batch_execute(&insert_sql(number).replace("'Apple'", text)).await.unwrap();
    }
    let read = load(&changes, &[1, 2, 3, 4], 1).await;
    let found: Vec<Topic> = read.found.iter().map(|(topic, _)| *topic).collect();
    assert_eq!((found, read.left), (vec![topic(1), topic(4)], vec![topic(2), topic(3)]));
    let read = load(&changes, &[3], 2).await;
    assert!(matches!(&read.found[..], [(_, Found::Present(_))]), "a row above the bytes");
}

/// A database whose encoding looks at no byte.
#[tokio::test]
async fn a_row_that_is_not_text_costs_the_others_nothing_and_ends_no_listener() {
    let database = Cluster::shared().database_in_sql_ascii().await;
    let config = PostgresConfig::parse(database.url()).unwrap();
    migrate(&config).await.unwrap();
    let mut changes = Changes::of(&config).await;
    let client = database.connect().await;
    client.batch_execute(&insert_sql(1)).await.unwrap();
    client.batch_execute(&insert_sql(2).replace("'Apple'", "E'\\xff'")).await.unwrap();
    client.batch_execute(&insert_sql(3).replace("'Apple'", "E'\\xc3\\xa9'")).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        let change = changes.next().await;
        told.push((number_of(&change), change.is_whole));
    }
    assert_eq!(told, [(1, true), (2, false), (3, true)]);
    let read = load(&changes, &[1, 2, 3], 1).await;
    assert_eq!(
        read,
        Read { found: Vec::new(), left: vec![topic(1), topic(2), topic(3)] },
        "smaller reads find the row"
    );
    let version = stored_version(&client, 2).await;
    assert_eq!(load(&changes, &[2], 2).await.found, [(topic(2), Found::Unreadable { version })]);
    let read = load(&changes, &[1, 3], 3).await;
    let product = Product { manufacturer: "é".into(), ..macbook(3) };
    let version = stored_version(&client, 3).await;
    assert_eq!(read.found[1], (topic(3), Found::Present(versioned(&product, version))));
    assert!(matches!(read.found[0].1, Found::Present(_)));
}
