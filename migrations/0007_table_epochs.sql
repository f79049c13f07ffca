-- The epochs of tables. A server compares what each table is with what it was when the versions of its rows began to mean
-- something: where rows may have changed without their versions, they mean nothing any more, and the table gets an epoch
-- of its own (`src/source/notify/tables.rs`).
--
-- The stream's channel carries one more payload:
--
--   began <name>    the table that servers call so has another epoch, which stands in `rowcast_served`

-- The tables that servers cast, by the names that they give them, each as it was when its epoch began: a name may be that
-- of another table tomorrow. `epoch` is NULL where it is that of all, in `rowcast_stream`.
CREATE TABLE rowcast_served (
    name text PRIMARY KEY,
    fingerprint text NOT NULL,
    epoch bigint
);

-- Notes how a table is, and begins an epoch of it if that is wanted, unless it was noted otherwise than expected meanwhile:
-- then another server did this. One that was never noted has the epoch of all.
CREATE FUNCTION rowcast_note(served text, expected text, expected_epoch bigint, seen text, begins boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF expected IS NULL THEN
        INSERT INTO rowcast_served VALUES (served, seen) ON CONFLICT DO NOTHING;
        RETURN;
    END IF;
    UPDATE rowcast_served SET fingerprint = seen, epoch = CASE WHEN begins THEN rowcast_random_epoch() ELSE epoch END
        WHERE name = served AND fingerprint = expected AND epoch IS NOT DISTINCT FROM expected_epoch;
    IF FOUND AND begins THEN
        PERFORM pg_notify(channel, format('began %s', served)) FROM rowcast_stream;
    END IF;
END $$;

-- The triggers of Rowcast that a table lacks, or that are off.
CREATE FUNCTION rowcast_table_triggers_off(relation oid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(wanted || CASE WHEN tgname IS NULL THEN ' is missing' ELSE ' is off' END, ', ' ORDER BY wanted)
        FROM unnest(ARRAY['00_rowcast', 'zz_rowcast', 'zz_rowcast_truncate']) AS wanted
        LEFT JOIN pg_trigger ON tgrelid = relation AND tgname = wanted
        WHERE tgenabled IS DISTINCT FROM 'A'
$$;

-- As in 0004_tables.sql; an epoch of all is that of every table.
CREATE OR REPLACE FUNCTION rowcast_renew_epoch(expected bigint, floor bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    stream rowcast_stream;
    has_products boolean := to_regclass('product_tombstones') IS NOT NULL;
    highest bigint := floor;
    trigger_name name;
    installed record;
BEGIN
    IF has_products THEN
        LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    FOR installed IN SELECT relation::text AS name FROM rowcast_tables JOIN pg_class ON oid = relation ORDER BY relation LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', installed.name);
    END LOOP;
    SELECT * INTO STRICT stream FROM rowcast_stream FOR UPDATE;
    IF stream.epoch <> expected THEN
        RETURN stream.epoch;
    END IF;
    FOR trigger_name IN SELECT tgname FROM pg_trigger WHERE has_products AND tgrelid = to_regclass('products')
        AND tgname = ANY (rowcast_trigger_names()) AND tgenabled = 'O'
    LOOP
        EXECUTE format('ALTER TABLE products ENABLE ALWAYS TRIGGER %I', trigger_name);
    END LOOP;
    IF has_products THEN
        highest := greatest(highest, (SELECT max(version) FROM products), (SELECT max(version) FROM product_tombstones));
    END IF;
    -- The versions of tables' rows need not be looked at: a row is never stamped below the version that it has.
    PERFORM setval('product_versions', greatest(highest, (SELECT last_value FROM product_versions),
        (SELECT max(version) FROM rowcast_tombstones)));
    UPDATE rowcast_served SET epoch = NULL;
    UPDATE rowcast_stream SET epoch = rowcast_random_epoch(), triggers = rowcast_triggers() RETURNING * INTO stream;
    PERFORM pg_notify(stream.channel, format('epoch %s', stream.epoch));
    RETURN stream.epoch;
END $$;

DO $$
DECLARE
    name text;
    grantee text;
BEGIN
    FOREACH name IN ARRAY ARRAY['rowcast_note(text, text, bigint, text, boolean)', 'rowcast_renew_epoch(bigint, bigint)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
    END LOOP;
    ALTER FUNCTION rowcast_note(text, text, bigint, text, boolean) SET lock_timeout = '2s';
    ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET lock_timeout = '2s';
    ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET row_security = off;

    -- The roles of servers are those that may read the stream.
    FOR grantee IN SELECT DISTINCT acl.grantee::regrole::text
        FROM pg_class, aclexplode(relacl) AS acl
        WHERE oid = 'rowcast_stream'::regclass AND acl.grantee NOT IN (relowner, 0) AND acl.privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON rowcast_served TO %s', grantee);
        EXECUTE format('GRANT EXECUTE ON FUNCTION rowcast_note(text, text, bigint, text, boolean) TO %s', grantee);
        EXECUTE format('GRANT EXECUTE ON FUNCTION rowcast_renew_epoch(bigint, bigint) TO %s', grantee);
    END LOOP;
END $$;
