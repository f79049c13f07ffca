//! Rows: as they are, as they change, too fast for a reader, too large for a message.

use rowcast_client::{Event, Key, Options, Rows, State};
use serde_json::Value;

use super::follow::follow;
use super::{client, next, put, shown, until, until_change};
use crate::process::Running;
use crate::support::patiently;
use crate::support::postgres::{Cluster, free_port};
use crate::support::server::{Http, TestServer, product_json};

#[tokio::test]
async fn rows_of_tables_and_products_are_followed_from_before_there_are_any() {
    let server = TestServer::embedded(&[]).await;
    put(&server, "17", r#"{"n":1.50}"#).await;
    let client = client(&server, Options::default());
    let mut orders = client.subscribe(Rows::of("orders", ["17", "a-9"]));
    let mut products = client.subscribe(Rows::products([1]));
    assert_eq!(shown(&until(&mut orders, &Event::Live).await), [("17".to_owned(), Some(r#"{"n":1.50}"#))]);
    assert_eq!(until(&mut products, &Event::Live).await, []);
    put(&server, "a-9", r#"{"n":2}"#).await;
    server.request("PUT", "/products/1", Some(&product_json(1, 5))).await;
    server.request("DELETE", "/tables/orders/17", None).await;
    let change = until_change(&mut orders, |_| true).await;
    assert_eq!((change.key, change.row.unwrap().parse::<Value>().unwrap()["n"].as_i64()), (Key::from("a-9"), Some(2)));
    let gone = until_change(&mut orders, |change| change.row.is_none()).await;
    assert_eq!((gone.key, gone.previous.unwrap().json()), (Key::from(17), r#"{"n":1.50}"#));
    assert_eq!(until_change(&mut products, |_| true).await.key, Key::from(1));
    assert_eq!((client.rows("orders").len(), client.get("orders", "17"), client.state()), (1, None, State::Live));
    assert!(client.get("products", 1).is_some() && client.is_live("orders"));
}

#[tokio::test]
async fn a_slow_stream_is_told_the_newest_and_holds_nobody_up() {
    const CHANGES: u64 = 500;
    let server = TestServer::embedded(&[]).await;
    put(&server, "3", "{}").await;
    let client = client(&server, Options::default());
    let mut fast = client.subscribe(Rows::all("orders"));
    let mut slow = client.subscribe(Rows::of("orders", [1, 2]));
    until(&mut fast, &Event::Live).await;
    until(&mut slow, &Event::Live).await;
    let mut http = server.http().await;
    for n in 1..=CHANGES {
        for key in [1, 2] {
            let reply = http.request("PUT", &format!("/tables/orders/{key}"), Some(&format!(r#"{{"n":{n}}}"#))).await;
            assert!(reply.status.is_success(), "{reply:?}");
        }
    }
    let last = format!(r#"{{"n":{CHANGES}}}"#);
    let is_last = |change: &rowcast_client::Change| change.row.as_ref().is_some_and(|row| row.json() == last);
    until_change(&mut fast, |change| change.key == Key::from(2) && is_last(change)).await;
    // All was told to the other; now the slow one begins to read.
    let (mut told, mut ended) = (0, 0);
    while ended < 2 {
        let Event::Change(change) = next(&mut slow).await else { panic!("there are changes alone") };
        told += 1;
        ended += i32::from(is_last(&change));
    }
    assert!(told <= 64 + 2, "{told} changes waited");
}

#[tokio::test]
async fn after_a_kill_it_is_told_what_changed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let write = async |server: &Running, method: &str, key: u64, body: Option<&str>| {
        let mut http = Http::connect(server.address).await;
        let reply = http.request(method, &format!("/tables/orders/{key}"), body).await;
        assert!(reply.status.is_success(), "{reply:?}");
    };
    let mut server = Running::serving(&directory, &address).await;
    for key in 1..=3 {
        write(&server, "PUT", key, Some("{}")).await;
    }
    let client = rowcast_client::connect(&format!("ws://{address}"), Options::default()).unwrap();
    let mut some = client.subscribe(Rows::of("orders", [1, 2, 3, 4]));
    let mut all = client.subscribe(Rows::all("orders"));
    assert_eq!((until(&mut some, &Event::Live).await.len(), until(&mut all, &Event::Live).await.len()), (3, 3));
    server.child.kill().await.unwrap();
    for events in [&mut some, &mut all] {
        assert_eq!(next(events).await, Event::Stale);
    }
    let mut elsewhere = Running::serving(&directory, "127.0.0.1:0").await;
    write(&elsewhere, "PUT", 1, Some(r#"{"n":2}"#)).await;
    write(&elsewhere, "DELETE", 2, None).await;
    write(&elsewhere, "PUT", 4, Some("{}")).await;
    elsewhere.child.kill().await.unwrap();
    let _server = Running::serving(&directory, &address).await;
    for events in [&mut some, &mut all] {
        let mut changes = until(events, &Event::Live).await;
        changes.sort_by_key(|change| change.key.clone());
        let expected = [("1", Some(r#"{"n":2}"#)), ("2", None), ("4", Some("{}"))];
        assert_eq!(shown(&changes), expected.map(|(key, row)| (key.to_owned(), row)));
    }
}

#[tokio::test]
async fn a_row_of_which_the_key_alone_came_is_read() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    owner.batch_execute("CREATE TABLE notes (name text PRIMARY KEY, note text)").await.unwrap();
    let server = TestServer::postgres(database.url(), &["--table", "notes"]).await;
    owner.batch_execute("INSERT INTO notes VALUES ('../x&y', 'short')").await.unwrap();
    let client = client(&server, Options::default());
    let mut notes = client.subscribe(Rows::of("notes", ["../x&y"]));
    assert_eq!(until(&mut notes, &Event::Live).await.len(), 1);
    owner.batch_execute("UPDATE notes SET note = repeat('n', 2 * 1024 * 1024)").await.unwrap();
    let told = until_change(&mut notes, |_| true).await;
    assert!(told.is_owed && told.row.unwrap().json().contains("short"), "the row before, as old");
    let read = until_change(&mut notes, |change| !change.is_owed).await;
    assert!(read.row.unwrap().json().len() > 2 * 1024 * 1024 && read.version == told.version);
}

/// Output that ends after a line which says this.
struct Until(&'static str, Vec<u8>);

impl std::io::Write for Until {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if String::from_utf8_lossy(&self.1).contains(self.0) {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_example_shows_what_there_is() {
    let server = TestServer::embedded(&[]).await;
    put(&server, "17", r#"{"n":1}"#).await;
    let url = format!("http://{}", server.address);
    let mut out = Until("present state", Vec::new());
    let rows = Rows::all("orders");
    let writing = async {
        server.until_metric("rowcast_subscriptions", 1).await;
        // Its next line fails.
        loop {
            put(&server, "18", "{}").await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = patiently(follow(&url, rows, &mut out)) => assert!(ended.is_err()),
        () = writing => {}
    }
    let text = String::from_utf8(out.1).unwrap();
    assert!(text.contains("17: {\"n\":1}\n") && text.ends_with("-- this is the present state\n"), "{text}");
}
