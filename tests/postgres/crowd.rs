//! Many sessions at few products: what no list of interleavings thought of.

use std::collections::HashMap;

use rowcast::store::postgres::PostgresStore;
use rowcast::store::{Precondition, StoreError};
use tokio_postgres::Client;

use super::{Fixture, Products, id, insert_sql, json, macbook, number_of};

#[tokio::test]
async fn versions_grow_under_a_crowd() {
    const SESSIONS: u64 = 6;
    const ROUNDS: u64 = 120;
    let Fixture { database, store, mut changes, .. } = Fixture::new().await;
    let mut sessions = Vec::new();
    for session in 0..SESSIONS {
        let (client, store) = (database.connect().await, store.clone());
        sessions.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                crowd_step(&client, &store, session * 7 + round * 13).await;
            }
        }));
    }
    let observer = database.connect().await;
    let crowd = tokio::spawn(async move {
        for session in sessions {
            session.await.unwrap();
        }
        observer.batch_execute(&insert_sql(500)).await.unwrap();
    });

    let mut told_by_product = HashMap::new();
    let mut count = 0;
    loop {
        let change = changes.next().await;
        if number_of(&change) == 500 {
            break;
        }
        count += 1;
        let (version, json) = (change.version, json(&change));
        let action = json.split('"').nth(3).unwrap().to_owned();
        let before = told_by_product.insert(number_of(&change), (version, action));
        assert!(before.as_ref().is_none_or(|(before, _)| *before < version), "{before:?} before {json}");
    }
    crowd.await.unwrap();
    assert!(count > SESSIONS * ROUNDS / 3, "only {count} changes");
    for number in 1..=3 {
        let (version, action) = &told_by_product[&number];
        match store.get(id(number)).await {
            Ok(row) => assert_eq!(*version, row.version),
            Err(_) => assert_eq!(action, "DELETE"),
        }
    }
}

async fn crowd_step(client: &Client, store: &PostgresStore, step: u64) {
    let (one, other) = (step % 3 + 1, (step / 3) % 3 + 1);
    let upsert = format!("{} ON CONFLICT (product_id) DO UPDATE SET units_available = 9", insert_sql(one));
    let delete = format!("DELETE FROM products WHERE product_id = {one}");
    let outcome = match step % 7 {
        0 => store.insert_product(macbook(one), Precondition::default()).await.map(|_| ()),
        1 => store.put_product(macbook(one), Precondition::default()).await.map(|_| ()),
        2 => store.delete(id(one), Precondition::default()).await.map(|_| ()),
        3 => run(client, &format!("UPDATE products SET product_id = {other} WHERE product_id = {one}")).await,
        4 => run(client, &format!("BEGIN; {delete}; {upsert}; {delete}; COMMIT")).await,
        5 => run(client, &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {upsert}; COMMIT")).await,
        _ => run(client, &format!("BEGIN; {upsert}; SAVEPOINT s; {delete}; ROLLBACK TO s; {delete}; COMMIT")).await,
    };
    if let Err(StoreError::Unavailable(text)) = outcome {
        panic!("{text}");
    }
}

/// Runs a transaction that may well fail in a crowd.
async fn run(client: &Client, sql: &str) -> Result<(), StoreError> {
    if client.batch_execute(sql).await.is_err() {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    Ok(())
}
