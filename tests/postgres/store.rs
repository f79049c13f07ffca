//! The answers of the store, which are what subscribers are told.

use rowcast::model::product::Product;
use rowcast::model::row::Row;
use rowcast::model::table::PRODUCTS;
use rowcast::store::{Page, Precondition, Put, StoreError, Written};

use super::{Fixture, Products, id, insert_sql, key, macbook, versioned};

#[tokio::test]
async fn a_product_is_written_and_read() {
    let Fixture { store, mut changes, .. } = Fixture::new().await;
    assert!(matches!(store.get(id(1)).await, Err(StoreError::NotFound(missing)) if missing == id(1)));
    assert!(matches!(store.delete(id(1), Precondition::default()).await, Err(StoreError::NotFound(_))));
    let patch = Row::encoded(r#"{"unitsAvailable":7}"#);
    assert!(matches!(store.patch(id(1), patch.clone(), Precondition::default()).await, Err(StoreError::NotFound(_))));

    let inserted = store.insert_product(macbook(1), Precondition::default()).await.unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), versioned(&macbook(1), inserted));
    assert!(
        matches!(store.insert_product(macbook(1), Precondition::default()).await, Err(StoreError::Exists(taken)) if taken == id(1))
    );

    let patched = store.patch(id(1), patch, Precondition::default()).await.unwrap();
    assert_eq!(patched.row, Some(Row::from(&Product { units_available: 7, ..macbook(1) })));
    assert_eq!(Written::from(store.get(id(1)).await.unwrap()), patched);

    let (put, replaced) =
        store.put_product(Product { product_name: "Air".into(), ..macbook(1) }, Precondition::default()).await.unwrap();
    assert_eq!(put, Put::Replaced);
    let deleted = store.delete(id(1), Precondition::default()).await.unwrap();
    let (put, put_again) = store.put_product(macbook(1), Precondition::default()).await.unwrap();
    assert_eq!(put, Put::Inserted);

    let told = changes.of_one_product(5).await;
    let answered = [
        ("INSERT", inserted),
        ("UPDATE", patched.version),
        ("UPDATE", replaced),
        ("DELETE", deleted),
        ("INSERT", put_again),
    ];
    assert_eq!(told, answered.map(|(action, version)| (action.to_owned(), version)));
}

#[tokio::test]
async fn the_ends_of_the_ranges_are_kept() {
    let Fixture { store, .. } = Fixture::new().await;
    for number in [0, rowcast::model::product::ProductId::MAX.get()] {
        for units_available in [i64::MIN, i64::MAX] {
            let product = Product { units_available, manufacturer: String::new(), ..macbook(number) };
            store.put_product(product.clone(), Precondition::default()).await.unwrap();
            assert_eq!(store.get(id(number)).await.unwrap().row, Row::from(&product));
        }
    }
}

#[tokio::test]
async fn the_list_is_paged_by_id() {
    let Fixture { store, database, .. } = Fixture::new().await;
    let client = database.connect().await;
    for number in [5, 3, 9, 0] {
        client.batch_execute(&insert_sql(number)).await.unwrap();
    }
    let numbers = |page: &Page| page.rows.iter().map(|row| row.key.to_string().parse().unwrap()).collect::<Vec<u64>>();
    for (after, limit, bytes_max, wanted, more) in [
        (None, 2, usize::MAX, &[0, 3][..], true),
        (Some(3), 2, usize::MAX, &[5, 9], false),
        (Some(4), usize::MAX, usize::MAX, &[5, 9], false),
        (Some(9), 2, usize::MAX, &[], false),
        (None, 0, usize::MAX, &[], false),
        (None, 9, 0, &[0], true),
        (Some(5), 9, 0, &[9], false),
    ] {
        let page = store.list(PRODUCTS, after.map(key), limit, bytes_max).await.unwrap();
        assert_eq!((numbers(&page), page.next.is_some()), (wanted.to_vec(), more), "{after:?} {limit} {bytes_max}");
    }
    // By the bytes of the texts, wherever Postgres keeps them.
    let large = |number| Product { manufacturer: "x".repeat(100_000), ..macbook(number) };
    for number in [10, 11, 12] {
        store.put_product(large(number), Precondition::default()).await.unwrap();
    }
    let bytes = large(10).manufacturer.len() + large(10).price_per_unit.len() + large(10).product_name.len();
    for (bytes_max, wanted) in [(2 * bytes, &[10, 11][..]), (2 * bytes - 1, &[10]), (3 * bytes, &[10, 11, 12])] {
        let page = store.list(PRODUCTS, Some(key(9)), 9, bytes_max).await.unwrap();
        assert_eq!((numbers(&page), page.next.is_some()), (wanted.to_vec(), wanted.len() < 3), "{bytes_max}");
        assert!(page.rows.iter().all(|row| row.row.as_bytes().len() > 100_000));
    }
}

#[tokio::test]
async fn a_patch_that_names_nothing_is_a_change_all_the_same() {
    let Fixture { store, mut changes, .. } = Fixture::new().await;
    store.insert_product(macbook(1), Precondition::default()).await.unwrap();
    let patched = store.patch(id(1), Row::encoded("{}"), Precondition::default()).await.unwrap();
    assert_eq!(patched.row, Some(Row::from(&macbook(1))));
    assert_eq!(changes.of_one_product(2).await[1], ("UPDATE".to_owned(), patched.version));
}

#[tokio::test]
async fn a_database_without_the_tables_is_a_fault_in_words_for_the_log() {
    let database = crate::support::postgres::Cluster::shared().database().await;
    let config = rowcast::store::postgres::config::PostgresConfig::parse(database.url()).unwrap();
    let store = rowcast::store::postgres::PostgresStore::new(&config);
    store.check().await.unwrap();
    let error = store.get(id(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Fault(_)), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("\"products\" does not exist") && error.contains(&config.to_string()), "{error}");
}
