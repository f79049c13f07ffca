//! The rows that Rowcast's tables hold only for a while.

use super::{Fixture, listen_and_keep_house};

const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY)";

#[tokio::test]
async fn tombstones_go_once_no_insert_can_need_them() {
    let fixture = Fixture::installed(ORDERS, "orders").await;
    let (store, _) = fixture.store("orders").await;
    // An insert under way may need all that is deleted from now on.
    let inserter = fixture.database.connect().await;
    inserter.batch_execute("BEGIN; INSERT INTO orders VALUES (9)").await.unwrap();
    fixture
        .write("INSERT INTO orders VALUES (1), (2); DELETE FROM orders WHERE id = 1; DELETE FROM orders WHERE id = 2")
        .await;

    let (mut source, listening) = listen_and_keep_house(fixture.config.clone(), store);
    let is_marked = "SELECT count(*) = 2 FROM rowcast_tombstones WHERE horizon IS NOT NULL AND marked_at IS NOT NULL";
    while !fixture.value::<bool>(is_marked).await {
        tokio::task::yield_now().await;
    }
    inserter.batch_execute("COMMIT").await.unwrap();
    while !fixture.value::<bool>("SELECT count(*) = 0 FROM rowcast_tombstones").await {
        tokio::task::yield_now().await;
    }
    // The listener passes over what tables tell, and goes on.
    fixture
        .write("INSERT INTO orders VALUES (3); TRUNCATE orders; INSERT INTO products VALUES (1, 'm', 'p', 2, 'n')")
        .await;
    loop {
        let event = source.next().await.expect("the listener goes on");
        if let rowcast::model::event::SourceEvent::Change(change) = event {
            assert_eq!(change.subject.topic().narrow(), Some(1));
            break;
        }
    }
    listening.abort();
}
