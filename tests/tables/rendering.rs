//! One row has one rendering, whatever its writer's session has set.

use serde_json::json;

use super::{Fixture, row};

/// A row of a table that has values of all kinds whose text some setting changes.
const VALUES: &str = "CREATE TYPE pair AS (at timestamptz, price money); CREATE TABLE orders (id int PRIMARY KEY, n int, \
         at timestamptz, took interval, raw bytea, rate float8, kind regclass, type regtype, price money, doc xml, pair pair, \
         spans tstzrange, prices money[], document jsonb, list text[], name name, search tsvector); \
     INSERT INTO orders VALUES (1, 0, '2026-01-02 03:04:05+00', '1 day', '\\x00ff', 0.1::float8 + 0.2, 'orders', 'pair', \
         12.3, '<a>&lt;</a>', ('2026-01-02 03:04:05+00', 12.3), '[2026-01-02 03:04:05+00,)', '{12.3}', '{\"a\": 0.10}', \
         '{a,NULL}', 'orders', 'a:1')";

#[tokio::test]
async fn no_setting_that_a_session_may_switch_changes_what_is_told() {
    let mut fixture = Fixture::installed(VALUES, "orders").await;
    let switches = "SELECT format('%s = %L', name, value) FROM pg_settings, \
             unnest(CASE vartype WHEN 'bool' THEN ARRAY['on', 'off'] ELSE enumvals END) AS value \
         WHERE context = 'user' AND vartype IN ('bool', 'enum') AND name NOT LIKE '%transaction%' AND value <> setting";
    let switches: Vec<String> =
        fixture.owner.query(switches, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(switches.iter().any(|switch| switch == "quote_all_identifiers = 'on'"), "{switches:?}");
    let mut told = async |setting: &str| {
        fixture.write(&format!("BEGIN; {setting}; UPDATE orders SET n = 1; COMMIT")).await;
        let mut row = row(&fixture.told.since(&fixture.owner).await[0]);
        row.as_object_mut().unwrap().remove("rowcast_version");
        row
    };
    let plain = told("").await;
    assert_eq!((&plain["price"], &plain["kind"]), (&json!("$12.30"), &json!("public.orders")));
    for switch in switches {
        assert_eq!(told(&format!("SET LOCAL {switch}")).await, plain, "{switch}");
    }
}

#[tokio::test]
async fn all_that_renders_rows_has_the_same_settings() {
    let fixture = Fixture::installed(VALUES, "orders").await;
    let settings = "SELECT proname::text, array_agg(setting ORDER BY setting) FROM pg_proc, unnest(proconfig) AS setting \
         WHERE proname = ANY (ARRAY['rowcast_after_1', 'rowcast_rendered', 'rowcast_load', 'rowcast_page']) \
         AND setting !~ '^(search_path|row_security)=' GROUP BY proname";
    let rows = fixture.owner.query(settings, &[]).await.unwrap();
    let by_function: Vec<(String, Vec<String>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(by_function.len(), 4, "{by_function:?}");
    assert!(by_function.iter().all(|(_, settings)| *settings == by_function[0].1), "{by_function:?}");
    assert!(by_function[0].1.contains(&"lc_monetary=C".to_owned()), "{by_function:?}");
    // What is shown can be written.
    let writes = "SELECT 'lc_monetary=C' = ANY (proconfig) FROM pg_proc WHERE proname = 'rowcast_write'";
    assert!(fixture.value::<bool>(writes).await);
}
