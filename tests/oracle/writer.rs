//! The writers of the oracle: each writes at random until it is told to stop, by REST or by SQL. What fails is not
//! written, or is: only the table knows.

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
use crate::support::server::product_json;

/// The time after which a write is given up: its server may have been killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes by REST, to any of the servers; returns the number of writes of common products that were
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
            let id = random.below(around.products.len() as u64);
            let request = request(id, &mut random);
            let Ok(Ok(response)) = timeout(PATIENCE, sender.send_request(request)).await else {
                written = None;
                break;
            };
            let status = response.status();
            // What a server does that says that it does not know is not known.
            let is_counted = status.is_success() && around.common.contains(&id);
            written = written.filter(|_| !status.is_server_error()).map(|sum| sum + u64::from(is_counted));
            let _ = response.into_body().collect().await;
        }
    }
    written
}

fn request(id: u64, random: &mut Random) -> Request<Full<Bytes>> {
    let units = i64::try_from(random.below(1_000_000)).unwrap();
    let (method, body) = match random.below(20) {
        0..4 => ("DELETE", String::new()),
        4..7 => ("PATCH", format!(r#"{{"unitsAvailable":{units}}}"#)),
        7 => ("PATCH", format!(r#"{{"manufacturer":"{}"}}"#, "m".repeat(1 << random.below(15)))),
        _ => ("PUT", product_json(id, units)),
    };
    Request::builder()
        .method(method)
        .uri(format!("/products/{id}"))
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

/// Writes by SQL.
pub(super) async fn by_sql(url: String, around: Surroundings, mut random: Random) -> Option<u64> {
    let (products, is_busy) = (around.products.len() as u64, &around.is_busy);
    while *is_busy.borrow() {
        let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let connection = tokio::spawn(connection);
        while *is_busy.borrow() {
            let written = timeout(PATIENCE, client.batch_execute(&statement(products, &mut random))).await;
            match written {
                Ok(Err(error)) if error.as_db_error().is_none() => break,
                Err(_) => break,
                // A refusal: a key that is taken, a deadlock.
                Ok(_) => {}
            }
        }
        connection.abort();
    }
    // Only the database can count them.
    None
}

fn statement(products: u64, random: &mut Random) -> String {
    let (id, other) = (random.below(products), random.below(products));
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
