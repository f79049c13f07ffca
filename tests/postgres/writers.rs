//! Writers with plain SQL: what they may do, and that all of it is told.

use super::{Changes, Fixture, insert_sql, json, number_of, stored_version};

/// The next changes as `ACTION id`.
async fn told(changes: &mut Changes, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..count {
        let change = changes.next().await;
        let json = json(&change);
        told.push(format!("{} {}", json.split('"').nth(3).unwrap(), number_of(&change)));
    }
    told
}

#[tokio::test]
async fn a_version_that_a_writer_names_is_ignored() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute("INSERT INTO products VALUES (1, 'Apple', '500EUR', 6, 'MacBook Pro', 7000)").await.unwrap();
    client.batch_execute("UPDATE products SET version = -5").await.unwrap();
    client.batch_execute("UPDATE products SET version = version").await.unwrap();
    let seen = changes.of_one_product(3).await;
    assert!(seen.iter().all(|(_, version)| (1..7000).contains(version)), "{seen:?}");
    assert_eq!(stored_version(&client, 1).await, seen[2].1);
}

#[tokio::test]
async fn the_changes_of_a_transaction_are_told_in_order_and_those_undone_are_not() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    let transaction = [
        "BEGIN",
        &insert_sql(1),
        "SAVEPOINT undone",
        "DELETE FROM products",
        &insert_sql(2),
        "ROLLBACK TO undone",
        "UPDATE products SET units_available = 7",
        "DELETE FROM products",
        &insert_sql(1),
        "COMMIT",
        "BEGIN",
        &insert_sql(3),
        "ROLLBACK",
    ];
    client.batch_execute(&transaction.join("; ")).await.unwrap();
    let seen = changes.of_one_product(4).await;
    assert_eq!(
        seen.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(),
        ["INSERT", "UPDATE", "DELETE", "INSERT"]
    );
    changes.none_before_now(&client).await;
}

#[tokio::test]
async fn a_changed_key_is_a_delete_and_an_insert() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&insert_sql(1)).await.unwrap();
    client.batch_execute("UPDATE products SET product_id = 2, units_available = 7").await.unwrap();
    changes.next().await;
    let deleted = changes.next_json().await;
    assert!(deleted.starts_with(r#"{"action":"DELETE","#) && deleted.contains(r#""productId":1,"#), "{deleted}");
    assert!(deleted.contains(r#""unitsAvailable":6,"#), "{deleted}");
    let inserted = changes.next().await;
    assert_eq!(inserted.version, stored_version(&client, 2).await);
    let inserted = json(&inserted);
    assert!(inserted.starts_with(r#"{"action":"INSERT","#) && inserted.contains(r#""productId":2,"#), "{inserted}");
    assert!(inserted.contains(r#""unitsAvailable":7,"#), "{inserted}");
}

#[tokio::test]
async fn a_statement_that_moves_many_keys_is_told_in_order() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&format!("{}; {}", insert_sql(2), insert_sql(1))).await.unwrap();
    client.batch_execute("UPDATE products SET product_id = product_id + 1").await.unwrap();
    let told = told(&mut changes, 6).await;
    assert_eq!(told, ["INSERT 2", "INSERT 1", "DELETE 2", "INSERT 3", "DELETE 1", "INSERT 2"]);
}

#[tokio::test]
async fn a_statement_that_replaces_a_row_by_delete_and_insert_is_told_in_order() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&insert_sql(1)).await.unwrap();
    let replace = "WITH old AS (DELETE FROM products RETURNING *) \
                   INSERT INTO products SELECT product_id, 'Dell', price_per_unit, 1, product_name FROM old";
    client.batch_execute(replace).await.unwrap();
    let seen = changes.of_one_product(3).await;
    assert_eq!(seen.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(), ["INSERT", "DELETE", "INSERT"]);
}

#[tokio::test]
async fn a_truncate_is_told_as_deletes() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&format!("{}; {}", insert_sql(1), insert_sql(2))).await.unwrap();
    client.batch_execute(&format!("TRUNCATE products; {}", insert_sql(1))).await.unwrap();
    let told = told(&mut changes, 5).await;
    assert_eq!(told, ["INSERT 1", "INSERT 2", "DELETE 1", "DELETE 2", "INSERT 1"]);
    let rows = client.query("SELECT * FROM products", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_key_that_javascript_cannot_hold_is_refused() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    for key in ["-1", "9007199254740992", "NULL"] {
        let insert = insert_sql(1).replace("(1,", &format!("({key},"));
        client.batch_execute(&insert).await.unwrap_err();
    }
    changes.none_before_now(&client).await;
}

#[tokio::test]
async fn a_writer_needs_no_right_but_those_on_products() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let owner = database.connect().await;
    owner
        .batch_execute(
            "DROP ROLE IF EXISTS plain_writer; CREATE ROLE plain_writer LOGIN; \
             GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON products TO plain_writer",
        )
        .await
        .unwrap();
    let writer = crate::support::postgres::connect(&database.url_as("plain_writer")).await;
    // The functions of the triggers cannot be replaced by a writer's own.
    writer
        .batch_execute(
            "CREATE TEMPORARY TABLE product_tombstones (product_id bigint PRIMARY KEY, version bigint, horizon xid8); \
             CREATE TEMPORARY TABLE oversize_changes (version bigint, message text); SET search_path = pg_temp, public",
        )
        .await
        .unwrap();
    let large = "UPDATE products SET product_name = repeat('n', 9000)";
    let delete = "DELETE FROM products";
    let statements = [&insert_sql(1), large, delete, &insert_sql(1), "TRUNCATE products", &insert_sql(1), delete];
    for statement in statements {
        writer.batch_execute(statement).await.unwrap();
    }
    changes.of_one_product(7).await;
    writer.batch_execute("SELECT nextval('product_versions')").await.unwrap_err();
    writer.batch_execute("DELETE FROM public.product_tombstones").await.unwrap_err();
    let rows = writer.query("SELECT FROM pg_temp.product_tombstones", &[]).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test]
async fn what_the_triggers_of_others_write_is_told_in_order() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&format!("{}; {}", insert_sql(1), insert_sql(2))).await.unwrap();
    // Each change of either product gives product 2 a unit more, twice at most.
    client
        .batch_execute(
            "CREATE FUNCTION add_unit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF pg_trigger_depth() < 3 THEN \
                UPDATE products SET units_available = units_available + 1 WHERE product_id = 2; \
             END IF; RETURN NULL; END $$; \
             CREATE TRIGGER \"0_first\" AFTER UPDATE ON products FOR EACH ROW EXECUTE FUNCTION add_unit()",
        )
        .await
        .unwrap();
    client.batch_execute("UPDATE products SET product_name = 'n'").await.unwrap();
    client.batch_execute(&insert_sql(3)).await.unwrap();
    let mut last_by_product = std::collections::HashMap::new();
    loop {
        let change = changes.next().await;
        if number_of(&change) == 3 {
            break;
        }
        let before = last_by_product.insert(number_of(&change), change.version);
        assert!(before < Some(change.version), "{before:?} before {}", json(&change));
    }
    for number in [1, 2] {
        let stored = stored_version(&client, i64::try_from(number).unwrap()).await;
        assert_eq!(last_by_product[&number], stored);
    }
}

#[tokio::test]
async fn a_delete_that_a_trigger_of_others_undid_before_it_was_told_is_not_told_after() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client.batch_execute(&format!("{}; {}", insert_sql(1), insert_sql(2))).await.unwrap();
    client
        .batch_execute(&format!(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF OLD.product_id = 1 THEN {}; END IF; RETURN NULL; END $$; \
             CREATE TRIGGER keep AFTER DELETE ON products FOR EACH ROW EXECUTE FUNCTION keep()",
            insert_sql(2)
        ))
        .await
        .unwrap();
    client.batch_execute("DELETE FROM products").await.unwrap();
    assert_eq!(told(&mut changes, 4).await, ["INSERT 1", "INSERT 2", "DELETE 1", "INSERT 2"]);
    changes.none_before_now(&client).await;
}

#[tokio::test]
async fn an_insert_that_draws_again_is_told_once_whatever_the_triggers_of_others_do() {
    let Fixture { database, mut changes, .. } = Fixture::new().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.product_name <> 'renamed' THEN \
                UPDATE products SET product_name = 'renamed' WHERE product_id = NEW.product_id; \
             END IF; RETURN NULL; END $$; \
             CREATE TRIGGER rename AFTER INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION rename()",
        )
        .await
        .unwrap();
    // At this level every insert draws again.
    let insert = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {}; COMMIT", insert_sql(1));
    client.batch_execute(&insert).await.unwrap();
    // The trigger is called for the insert and for the update that draws again.
    let seen = changes.of_one_product(3).await;
    assert_eq!(seen.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(), ["INSERT", "UPDATE", "UPDATE"]);
    assert_eq!(seen[2].1, stored_version(&client, 1).await);
    client.batch_execute("DROP TRIGGER rename ON products").await.unwrap();
    changes.none_before_now(&client).await;
}
