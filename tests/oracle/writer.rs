//! The writers of the oracle: each writes at random until it is told to stop, by REST or by SQL. What fails is not
//! written, or is: only the table knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::random::Random;
use crate::support::server::product_json;

/// The time after which a write is given up: its server may have been killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes by REST, to any of the servers.
pub(super) async fn by_rest(
    servers: Arc<[std::net::SocketAddr]>,
    products: u64,
    is_busy: watch::Receiver<bool>,
    mut random: Random,
) {
    while *is_busy.borrow() {
        let address = *random.pick(&servers);
        let Ok(stream) = TcpStream::connect(address).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
            continue;
        };
        tokio::spawn(connection);
        for _ in 0..random.below(100) {
            if !*is_busy.borrow() {
                return;
            }
            let Ok(response) = timeout(PATIENCE, sender.send_request(request(products, &mut random))).await else {
                break;
            };
            let Ok(response) = response else { break };
            let _ = response.into_body().collect().await;
        }
    }
}

fn request(products: u64, random: &mut Random) -> Request<Full<Bytes>> {
    let id = random.below(products);
    let units = i64::try_from(random.below(1_000_000)).unwrap();
    let (method, body) = match random.below(10) {
        0 | 1 => ("DELETE", String::new()),
        2 | 3 => ("PATCH", format!(r#"{{"unitsAvailable":{units}}}"#)),
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
pub(super) async fn by_sql(url: String, products: u64, is_busy: watch::Receiver<bool>, mut random: Random) {
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
    match random.below(10) {
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
