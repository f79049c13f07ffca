//! A schema that others made, installed on and written by plain SQL, with every table of it watched.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio_postgres::Client;

use super::Fixture;
use crate::support::patiently;
use crate::support::postgres::Cluster;
use crate::support::server::TestServer;
use crate::support::socket::Socket;

const SCHEMA: &str = include_str!("pagila.sql");
/// The tables with a key of one column.
const CAST: [&str; 12] = [
    "language",
    "category",
    "actor",
    "country",
    "city",
    "address",
    "film",
    "store",
    "staff",
    "customer",
    "inventory",
    "rental",
];
/// What is not cast, with a part of the sentence that says why.
const REFUSED: [(&str, &str); 5] = [
    ("film_actor", "several columns"),
    ("film_category", "several columns"),
    ("payment", "a partitioned table"),
    ("payment_p2022_01", "a partition"),
    ("actor_info", "a view"),
];
/// As an application writes: many rows at once, cascades, upserts, two rows of one statement, what is rolled back.
const WRITES: [&str; 10] = [
    "INSERT INTO language (name) VALUES ('English'), ('Italian'), ('Japanese'); \
     INSERT INTO category (name) SELECT 'Category ' || n FROM generate_series(1, 16) n; \
     INSERT INTO actor (first_name, last_name) SELECT 'PENELOPE', 'GUINESS ' || n FROM generate_series(1, 200) n; \
     INSERT INTO country (country) SELECT 'Country ' || n FROM generate_series(1, 109) n; \
     INSERT INTO city (city, country_id) SELECT 'City ' || n, 1 + n % 109 FROM generate_series(1, 600) n; \
     INSERT INTO address (address, district, city_id, phone) \
        SELECT n || ' MySakila Drive', 'Alberta', n, '' FROM generate_series(1, 600) n",
    "INSERT INTO film (title, description, release_year, language_id, length, rating, special_features) \
        SELECT 'FILM ' || n, repeat('A Epic Drama of a Feminist. ', n), 2006, 1, 86, 'PG-13', \
        ARRAY['Trailers', 'Deleted \"Scenes\"'] FROM generate_series(1, 400) n",
    "INSERT INTO film_actor (actor_id, film_id) SELECT n % 200 + 1, n FROM generate_series(1, 400) n; \
     INSERT INTO film_category (film_id, category_id) SELECT n, n % 16 + 1 FROM generate_series(1, 400) n",
    "INSERT INTO store (manager_staff_id, address_id) VALUES (1, 1), (2, 2); \
     INSERT INTO staff (first_name, last_name, address_id, store_id, username, picture) \
        VALUES ('Mike', 'Hillyer', 3, 1, 'Mike', '\\x89504e470d0a5a0a'), ('Jon', 'Stephens', 4, 2, 'Jon', NULL)",
    "INSERT INTO customer (store_id, first_name, last_name, address_id, active) \
        SELECT 1 + n % 2, 'MARY', 'SMITH ' || n, n, 1 FROM generate_series(1, 599) n; \
     INSERT INTO inventory (film_id, store_id) SELECT 1 + n % 400, 1 + n % 2 FROM generate_series(1, 1000) n; \
     INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id) \
        SELECT timestamptz '2022-05-24 22:53:30+00' + n * interval '1 minute', 1 + n % 1000, 1 + n % 599, 1 + n % 2 \
        FROM generate_series(1, 1500) n; \
     INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) VALUES (1, 1, 1, 2.99, '2022-01-24')",
    "UPDATE rental SET return_date = rental_date + interval '3 days' WHERE rental_id % 3 = 0",
    "UPDATE film SET rental_rate = rental_rate + 1, description = NULL WHERE film_id BETWEEN 10 AND 20; \
     UPDATE film SET rating = 'R' WHERE film_id = 11; UPDATE actor SET actor_id = 1000 WHERE actor_id = 7",
    "INSERT INTO category (category_id, name) VALUES (3, 'Animation'), (17, 'Travel') \
        ON CONFLICT (category_id) DO UPDATE SET name = excluded.name; DELETE FROM category WHERE category_id = 17",
    "DELETE FROM rental WHERE rental_id > 1400; BEGIN; DELETE FROM rental; ROLLBACK",
    "TRUNCATE rental; INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id) VALUES ('2022-06-01', 1, 1, 1)",
];

/// A table and a key of it.
type Place = (String, String);
/// What a reader shows.
type Shown = BTreeMap<Place, Value>;

/// Returns the places that the message is about.
fn apply(shown: &mut Shown, message: &Value) -> Vec<Place> {
    let place = |key: &Value| (message["table"].as_str().unwrap_or("").to_owned(), key.to_string());
    if let Some(absent) = message["absent"].as_array() {
        let gone: Vec<Place> = absent.iter().map(place).collect();
        shown.retain(|place, _| !gone.contains(place));
        return gone;
    }
    let place = place(&message["key"]);
    match message["action"].as_str() {
        Some("DELETE") => drop(shown.remove(&place)),
        Some(_) => drop(shown.insert(place.clone(), message["row"].clone())),
        None => return Vec::new(),
    }
    vec![place]
}

async fn stored(owner: &Client) -> Shown {
    let mut rows = Shown::new();
    for table in CAST {
        let query = format!("SELECT {table}_id::text, (to_jsonb({table}.*) - 'rowcast_version')::text FROM {table}");
        for row in owner.query(&query, &[]).await.unwrap() {
            let row: (String, String) = (row.get(0), row.get(1));
            rows.insert((table.to_owned(), row.0), serde_json::from_str(&row.1).unwrap());
        }
    }
    rows
}

#[tokio::test]
async fn every_table_of_pagila_is_cast_or_refused_by_a_sentence() {
    let fixture = Fixture::new(SCHEMA).await;
    for (table, reason) in REFUSED {
        let refusal = fixture.install(table).await.unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("table {table}: ")) && refusal.contains(reason), "{refusal}");
    }
    for table in CAST {
        fixture.install(table).await.unwrap();
    }
}

#[tokio::test]
async fn readers_of_pagila_show_what_plain_sql_has_written() {
    let database = Cluster::shared().database().await;
    let owner = database.connect().await;
    // As the server renders rows, and as it must, whatever the roles and writers have set.
    owner.batch_execute("SET timezone = 'UTC'").await.unwrap();
    owner.batch_execute(SCHEMA).await.unwrap();
    owner.batch_execute(WRITES[0]).await.unwrap();
    let server = TestServer::postgres(database.url(), &["--cores", "2", "--table", &CAST.join(",")]).await;
    let mut socket = Socket::connect(server.address).await;
    for table in CAST {
        socket.send(&json!({"command":"subscribe","table":table,"keys":"*","snapshot":true,"id":1}).to_string()).await;
    }
    let (mut shown, mut replies) = (Shown::new(), 0);
    while replies < CAST.len() {
        let message = socket.next().await;
        assert_ne!(message["ok"], false, "{message}");
        replies += usize::from(message["reply"] == 1);
        apply(&mut shown, &message);
    }
    assert_eq!(shown, stored(&owner).await);
    let writer = database.connect().await;
    writer
        .batch_execute("SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET bytea_output = escape")
        .await
        .unwrap();
    for writes in &WRITES[1..] {
        writer.batch_execute(writes).await.unwrap();
        let wanted = stored(&owner).await;
        let mut places: BTreeSet<Place> = shown.keys().chain(wanted.keys()).cloned().collect();
        places.retain(|place| shown.get(place) != wanted.get(place));
        let shows_it = async {
            while !places.is_empty() {
                for place in apply(&mut shown, &socket.next().await) {
                    if shown.get(&place) == wanted.get(&place) {
                        places.remove(&place);
                    } else {
                        places.insert(place);
                    }
                }
            }
        };
        patiently(shows_it).await;
        assert_eq!(shown, wanted);
    }
}
