//! The writers of the oracle: each writes at random until it is told to stop, by REST or by SQL. What fails is not
//! written, or is: only the table knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::line::Http;
use super::random::Random;
use super::reader::Surroundings;
use super::table::{Id, PRODUCTS, Table, Tables};
use crate::support::server::product_json;

/// The time after which a write is given up: its server may have been killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes by REST, to any of the servers; returns the number of writes of common rows that were
/// done, unless one has no answer.
pub(super) async fn by_rest(around: Surroundings, mut random: Random) -> Option<u64> {
    let mut written = Some(0);
    while *around.is_busy.borrow() {
        let place = random.pick(&around.places).clone();
        let Some(stream) = place.connect(Http::One).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
            continue;
        };
        tokio::spawn(connection);
        for _ in 0..random.below(100) {
            if !*around.is_busy.borrow() {
                break;
            }
            let id = id(&around.tables, &mut random);
            let request = request(&around.tables, &id, &mut random);
            let Ok(Ok(response)) = timeout(PATIENCE, sender.send_request(request)).await else {
                written = None;
                break;
            };
            let status = response.status();
            assert_ne!(status, 500, "no fault makes the store another one than the server expects");
            // What a server does that says that it does not know is not known.
            let is_counted = status.is_success() && around.common.contains(&id);
            written = written.filter(|_| !status.is_server_error()).map(|sum| sum + u64::from(is_counted));
            let _ = response.into_body().collect().await;
        }
    }
    written
}

/// Draws a row: half of them are products.
fn id(tables: &Tables, random: &mut Random) -> Id {
    let others = tables.iter().count() as u64 - 1;
    let table = usize::try_from((1 + random.below(2 * others)).saturating_sub(others)).unwrap();
    Id { table, key: random.pick(&tables.get(table).keys).clone() }
}

fn request(tables: &Tables, id: &Id, random: &mut Random) -> Request<Full<Bytes>> {
    let units = i64::try_from(random.below(1_000_000)).unwrap();
    let (method, uri, body) = if id.table == PRODUCTS {
        let (method, body) = match random.below(20) {
            0..4 => ("DELETE", String::new()),
            4..7 => ("PATCH", format!(r#"{{"unitsAvailable":{units}}}"#)),
            7 => ("PATCH", format!(r#"{{"manufacturer":"{}"}}"#, "m".repeat(1 << random.below(15)))),
            _ => ("PUT", product_json(id.key.parse().unwrap(), units)),
        };
        (method, format!("/products/{}", id.key), body)
    } else {
        let uri = uri(tables.get(id.table), &id.key, random);
        match random.below(20) {
            0..4 => ("DELETE", uri, String::new()),
            4..6 => ("PATCH", uri, format!(r#"{{"amount":{units}}}"#)),
            6 => ("PATCH", uri, format!(r#"{{"data":{{"p":{units},"q":null}}}}"#)),
            7 => ("PATCH", uri, format!(r#"{{"note":"{}"}}"#, "m".repeat(1 << random.below(15)))),
            8..11 => ("POST", uri_of_query(tables.get(id.table), &id.key), format!(r#"{{"amount":{units}}}"#)),
            _ => ("PUT", uri, format!(r#"{{"amount":{units},"note":"n","data":{{"q":[{units}]}}}}"#)),
        }
    };
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

/// Returns one of the two places of a row.
fn uri(table: &Table, key: &str, random: &mut Random) -> String {
    if matches!(key, "" | "." | "..") || random.one_in(3) {
        uri_of_query(table, key)
    } else {
        format!("/tables/{}/{}", table.name, percent_encoded(key))
    }
}

fn uri_of_query(table: &Table, key: &str) -> String {
    format!("/tables/{}?key={}", table.name, percent_encoded(key))
}

fn percent_encoded(key: &str) -> String {
    key.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"))
}

/// Writes by SQL.
pub(super) async fn by_sql(url: String, around: Surroundings, mut random: Random) -> Option<u64> {
    let is_busy = &around.is_busy;
    while *is_busy.borrow() {
        let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let connection = tokio::spawn(connection);
        while *is_busy.borrow() {
            let written = timeout(PATIENCE, client.batch_execute(&statement(&around.tables, &mut random))).await;
            match written {
                Ok(Err(error)) if error.as_db_error().is_none() => break,
                Err(_) => break,
                // A refusal: a key that is taken, a deadlock. The transaction that was begun is over.
                Ok(Err(_)) if timeout(PATIENCE, client.batch_execute("ROLLBACK")).await.is_err() => break,
                Ok(_) => {}
            }
        }
        connection.abort();
    }
    // Only the database can count them.
    None
}

fn statement(tables: &Tables, random: &mut Random) -> String {
    let id = id(tables, random);
    if id.table == PRODUCTS {
        let products = tables.get(PRODUCTS).keys.len() as u64;
        return product_statement(id.key.parse().unwrap(), products, random);
    }
    let Table { name, column, keys, .. } = tables.get(id.table);
    let (units, other) = (random.below(1_000_000), quoted(random.pick::<Arc<str>>(keys)));
    let some: Vec<String> = (0..=random.below(8)).map(|_| quoted(random.pick::<Arc<str>>(keys))).collect();
    let (key, some) = (quoted(&id.key), some.join(","));
    let insert = format!("INSERT INTO {name} ({column}, amount, data) VALUES ({key}, {units}, '{{\"sql\":[1,2.50]}}')");
    let level = random.pick(&["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]);
    match random.below(12) {
        0 => insert,
        1 => format!("BEGIN ISOLATION LEVEL {level}; {insert}; COMMIT"),
        2 => format!("DELETE FROM {name} WHERE {column} = {key}"),
        3 => format!("UPDATE {name} SET {column} = {other} WHERE {column} = {key}"),
        4 => format!("UPDATE {name} SET amount = {units} WHERE {column} IN ({some})"),
        5 => format!("BEGIN; DELETE FROM {name} WHERE {column} = {key}; {insert}; COMMIT"),
        6 => format!("BEGIN; UPDATE {name} SET amount = {units} WHERE {column} = {key}; ROLLBACK"),
        7 => format!("DELETE FROM {name} WHERE {column} IN ({some})"),
        8 => format!("{insert} ON CONFLICT ({column}) DO UPDATE SET amount = {units}"),
        9 => format!("UPDATE {name} SET note = repeat('n', {}) WHERE {column} = {key}", units % 20_000),
        10 => format!("BEGIN; SAVEPOINT s; {insert}; ROLLBACK TO s; UPDATE {name} SET note = NULL; COMMIT"),
        _ => format!("UPDATE {name} SET amount = {units} WHERE {column} = {key}"),
    }
}

/// Returns a text as SQL has it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn product_statement(id: u64, products: u64, random: &mut Random) -> String {
    let other = random.below(products);
    let units = random.below(1_000_000);
    let insert = |id| {
        format!(
            "INSERT INTO products (product_id, manufacturer, price_per_unit, units_available, product_name) \
             VALUES ({id}, 'm', '1EUR', {units}, 'by SQL')"
        )
    };
    match random.below(11) {
        10 => format!("UPDATE products SET product_name = repeat('n', {}) WHERE product_id = {id}", units % 20_000),
        0 => insert(id),
        1 => format!("DELETE FROM products WHERE product_id = {id}"),
        2 => format!("UPDATE products SET product_id = {other} WHERE product_id = {id}"),
        3 => format!("UPDATE products SET units_available = {units} WHERE product_id BETWEEN {id} AND {}", id + 20),
        4 => format!("BEGIN; DELETE FROM products WHERE product_id = {id}; {}; COMMIT", insert(id)),
        5 => format!("BEGIN; UPDATE products SET units_available = {units} WHERE product_id = {id}; ROLLBACK"),
        6 => format!("DELETE FROM products WHERE product_id BETWEEN {id} AND {}", id + 5),
        7 => format!("{} ON CONFLICT (product_id) DO UPDATE SET units_available = {units}", insert(id)),
        _ => format!("UPDATE products SET units_available = {units} WHERE product_id = {id}"),
    }
}
