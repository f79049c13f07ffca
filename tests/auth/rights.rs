//! The rights of a token: the products that its bearer may read and write.

use serde_json::{Value, json};

use super::tokens::{bearer, everything, guarded};
use crate::support::server::{Reply, TestServer, product_json};
use crate::support::socket::Socket;

/// A server with products 0 to 29.
async fn filled(options: &[&str]) -> (TestServer, super::tokens::Issuer) {
    let (server, issuer) = guarded(options).await;
    let all = bearer(&issuer.granting(everything()));
    for id in 0..30 {
        let path = format!("/products/{id}");
        let reply = server.request_with("PUT", &path, &[("authorization", &all)], Some(&product_json(id, 1))).await;
        assert_eq!(reply.status, 201);
    }
    (server, issuer)
}

fn is_forbidden(reply: &Reply, part: &str) {
    assert_eq!(reply.status, 403, "{reply:?}");
    assert_eq!(reply.header("www-authenticate"), r#"Bearer error="insufficient_scope""#);
    assert!(reply.text.contains(part), "{reply:?}");
}

#[tokio::test]
async fn reading_ends_where_the_token_says() {
    let (server, issuer) = filled(&[]).await;
    let token = bearer(&issuer.granting(json!({"read": [1, "3-5"]})));
    for id in 0..40 {
        for method in ["GET", "HEAD"] {
            let path = format!("/products/{id}");
            let reply = server.request_with(method, &path, &[("authorization", &token)], None).await;
            let expected = if [1, 3, 4, 5].contains(&id) { 200 } else { 403 };
            assert_eq!(reply.status, expected, "{method} {path}");
        }
    }
    let nothing = bearer(&issuer.token(json!({})));
    let reply = server.request_with("GET", "/products/1", &[("authorization", &nothing)], None).await;
    is_forbidden(&reply, "product 1");
}

#[tokio::test]
async fn a_list_shows_what_may_be_read_on_pages_that_lead_to_the_end() {
    let (server, issuer) = filled(&[]).await;
    for (read, expected) in [
        (json!("*"), (0..30).collect::<Vec<u64>>()),
        (json!([]), vec![]),
        (json!([0]), vec![0]),
        (json!([29, "31-9007199254740991"]), vec![29]),
        (json!(["2-4", 7, "9-12", "25-100"]), vec![2, 3, 4, 7, 9, 10, 11, 12, 25, 26, 27, 28, 29]),
        (json!((0..30).step_by(2).collect::<Vec<u64>>()), (0..30).step_by(2).collect()),
        (json!((100..600).step_by(2).collect::<Vec<u64>>()), vec![]),
        (json!(["0-9007199254740991"]), (0..30).collect()),
    ] {
        let token = bearer(&issuer.granting(json!({"read": read})));
        for limit in [1, 3, 1000] {
            assert_eq!(listed(&server, &token, limit).await, expected, "{read} by {limit}");
        }
    }
}

/// The ids on all pages.
async fn listed(server: &TestServer, token: &str, limit: usize) -> Vec<u64> {
    let (mut ids, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/products?limit={limit}{after}");
        let page = server.request_with("GET", &path, &[("authorization", token)], None).await.json();
        let products = page["products"].as_array().unwrap();
        assert!(products.len() <= limit);
        ids.extend(products.iter().map(|product| product["productId"].as_u64().unwrap()));
        match page["next"].as_u64() {
            Some(next) => after = format!("&after={next}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn a_list_of_many_gaps_goes_on_where_it_stopped() {
    let (server, issuer) = guarded(&[]).await;
    let all = bearer(&issuer.granting(everything()));
    // Before every second product that may be read lies one that may not, so that no gap can be passed over.
    for id in 0..300 {
        let path = format!("/products/{id}");
        server.request_with("PUT", &path, &[("authorization", &all)], Some(&product_json(id, 1))).await;
    }
    let readable: Vec<u64> = (0..300).step_by(2).collect();
    let token = bearer(&issuer.granting(json!({"read": readable})));
    let first = server.request_with("GET", "/products?limit=1000", &[("authorization", &token)], None).await.json();
    assert_eq!((first["products"].as_array().unwrap().len(), &first["next"]), (100, &json!(198)));
    assert_eq!(listed(&server, &token, 1000).await, readable);
}

#[tokio::test]
async fn writing_needs_the_right_to_write() {
    let (server, issuer) = filled(&[]).await;
    let reader = bearer(&issuer.granting(json!({"read": "*"})));
    let body = product_json(1, 9);
    for (method, path, body) in [
        ("POST", "/products", Some(product_json(77, 9))),
        ("PUT", "/products/1", Some(body.clone())),
        ("PATCH", "/products/1", Some(r#"{"unitsAvailable":9}"#.to_owned())),
        ("DELETE", "/products/1", None),
    ] {
        let reply = server.request_with(method, path, &[("authorization", &reader)], body.as_deref()).await;
        is_forbidden(&reply, "write");
    }
    let kept = server.request_with("GET", "/products/1", &[("authorization", &reader)], None).await.json();
    assert_eq!(kept["unitsAvailable"], 1, "nothing was written");

    let writer = bearer(&issuer.granting(json!({"write": true})));
    let headers = [("authorization", &writer[..])];
    assert_eq!(server.request_with("PUT", "/products/1", &headers, Some(&body)).await.status, 200);
    assert_eq!(server.request_with("POST", "/products", &headers, Some(&product_json(77, 1))).await.status, 201);
    let patched = server.request_with("PATCH", "/products/1", &headers, Some(r#"{"unitsAvailable":3}"#)).await;
    assert_eq!((patched.status.as_u16(), &patched.text[..]), (204, ""), "what may not be read is not shown");
    assert!(patched.header("etag").len() > 2);
    is_forbidden(&server.request_with("GET", "/products/1", &headers, None).await, "read product 1");
    assert_eq!(server.request_with("DELETE", "/products/77", &headers, None).await.status, 204);
}

#[tokio::test]
async fn a_subscription_is_refused_by_id_and_the_rest_is_carried_out() {
    let (server, issuer) = filled(&["--max-subscriptions", "20", "--shards", "5"]).await;
    let token = bearer(&issuer.granting(json!({"read": [1, "3-5", "100-200"]})));
    let (mut socket, _) = Socket::connect_with(server.address, "/websocket", &[("authorization", &token)]).await;
    assert_eq!(socket.command("subscribe", [1, 3]).await, json!({"reply": "c", "ok": true, "subscribed": 2}));
    let refused = socket.command("subscribe", [5, 7, 2, 4, 7]).await;
    let error = "the token does not let you read 2, 7; the rest is subscribed to";
    assert_eq!(refused, json!({"reply": "c", "ok": false, "error": error, "code": "forbidden"}));
    assert_eq!(socket.command("subscribe", []).await["subscribed"], 4, "5 and 4 are subscribed to");

    let refused = socket.command("subscribe", 6..90).await;
    let error =
        "the token does not let you read 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 and 74 more; the rest is subscribed to";
    assert_eq!(refused["error"], error);
    socket.send(r#"{"command":"subscribe","productIDs":[9]}"#).await;
    let refused = socket.next().await;
    assert_eq!((&refused["code"], refused.get("reply")), (&json!("forbidden"), None));
    assert_eq!(socket.command("unsubscribe", [7, 3]).await, json!({"reply": "c", "ok": true, "subscribed": 3}));
    let too_many = socket.command("subscribe", (0..2).chain(100..150)).await;
    assert_eq!(too_many["code"], "too_many_subscriptions");
    assert_eq!(
        socket.command("subscribe", (100..117).chain([7])).await["code"],
        "forbidden",
        "the bound counts what is allowed"
    );
    assert_eq!(socket.command("subscribe", []).await["subscribed"], 20);

    let all = bearer(&issuer.granting(everything()));
    for id in [2, 7, 3, 4] {
        let path = format!("/products/{id}");
        server.request_with("PUT", &path, &[("authorization", &all)], Some(&product_json(id, 2))).await;
    }
    assert_eq!(socket.next().await["product"]["productId"], 4, "the changes of others are not seen");
}

#[tokio::test]
async fn all_of_a_table_is_what_may_be_read_of_it_and_refused_where_that_is_nothing() {
    let (server, issuer) = filled(&[]).await;
    let rights = json!({"write": true, "tables": {"orders": {"write": true}, "notes": {"read": [1], "write": true}}});
    let token = bearer(&issuer.granting(rights));
    let headers = [("authorization", &token[..])];
    for path in ["/tables/orders/1", "/tables/notes/1", "/tables/notes/2"] {
        assert_eq!(server.request_with("PUT", path, &headers, Some("{}")).await.status, 201);
    }
    let (mut socket, _) = Socket::connect_with(server.address, "/websocket", &headers).await;
    let mut ask = async |command: &str, rows: Value| {
        let mut asked = json!({"command": command, "id": "c", "snapshot": true});
        asked.as_object_mut().unwrap().extend(rows.as_object().unwrap().clone());
        socket.send(&asked.to_string()).await;
        let mut keys = Vec::new();
        loop {
            let message = socket.next().await;
            keys.extend(message.get("key").cloned());
            if message["reply"] == "c" {
                return (keys, message);
            }
        }
    };
    for (rows, name) in [(json!({"productIDs": "*"}), "products"), (json!({"table": "orders", "keys": "*"}), "orders")]
    {
        let error = format!("the token does not let you read any row of the table {name}");
        let refused = json!({"reply": "c", "ok": false, "error": error, "code": "forbidden"});
        assert_eq!(ask("subscribe", rows.clone()).await, (vec![], refused));
        assert_eq!(ask("unsubscribe", rows).await.1["ok"], true);
    }
    let (keys, reply) = ask("subscribe", json!({"table": "notes", "keys": "*"})).await;
    assert_eq!((keys, &reply["ok"], &reply["subscribed"]), (vec![json!(1)], &json!(true), &json!(1)));
}

#[tokio::test]
async fn without_keys_a_token_is_neither_needed_nor_looked_at() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let headers = [("authorization", "Bearer garbage")];
    assert_eq!(server.request_with("GET", "/products?token=other", &headers, None).await.json()["next"], Value::Null);
    let (mut socket, _) = Socket::connect_with(server.address, "/websocket", &headers).await;
    socket.subscribe([1]).await;
}
