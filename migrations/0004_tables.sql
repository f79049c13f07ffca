-- Tables of anybody, beside the products: what is shared by all of them. What a table gets of its own (a column, three
-- triggers, two functions, a sequence) is installed by name: `src/store/postgres/tables/`.
--
-- The stream's channel carries three more payloads (all fields but the last are separated by one space):
--
--   row <oid> <action> <version> <key> <row>    a change with its row as row_to_json writes it
--   row <oid> <action> <version> <key> +        a change whose row stands in `oversize_changes` under its version
--   row <oid> <action> <version> <key>          a change whose row is too large to be told, or no text in UTF-8
--   keyless <oid> <version>                     a change that is not told, since its key has more than 256 bytes or is no
--                                               text in UTF-8
--   gap <oid> <reason>                          changes of this table were not told, or got no version: all of its rows are
--                                               to be read, and no version of them that was known means anything
--
-- <oid> is the table's number in pg_class; <action> is I, U or D; <key> is JSON, digits or a string. The row of a delete
-- is the one that was deleted. A <reason> is `truncated`, `stale` (an insert keeps a version below that of the delete
-- before it) or the SQLSTATE of what failed.
--
-- The rule kept for products is kept here: the versions of one key grow in the order in which its changes commit.

-- The tables, each with the number that its functions and its sequence are called by, and the column of its key.
CREATE TABLE rowcast_tables (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation regclass NOT NULL UNIQUE,
    key name NOT NULL
);

-- The versions of deletes, for the insert that may follow and for whoever asks for a row that is gone. Rows are only ever
-- added by writers, so that none of them waits for another or fails for its snapshot's age; the listener gives them
-- their horizon and removes them, as it does with product_tombstones.
CREATE TABLE rowcast_tombstones (
    table_id int NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    horizon xid8,
    marked_at timestamptz,
    PRIMARY KEY (table_id, key, version)
);

-- Tells the listeners that a table's changes are not all told, and never fails: it is called where something failed.
CREATE FUNCTION rowcast_gap(relation oid, reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(channel, format('gap %s %s', relation, reason)) FROM rowcast_stream;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'Rowcast was not told of a change: %', SQLERRM;
END $$;

-- A text that listeners can be sent, or NULL: a database in another encoding may hold what is no text in UTF-8.
CREATE FUNCTION rowcast_sendable(told text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM convert_to(told, 'UTF8');
    RETURN told;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- Tells a change: with its row where NOTIFY takes it (less than 8000 bytes), with the row stored up to 1 MiB, and without
-- it above that. Without a head the key cannot be told.
CREATE FUNCTION rowcast_tell(channel text, relation oid, head text, version bigint, row_text text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    message text := coalesce(head, format('keyless %s %s', relation, version));
BEGIN
    IF channel IS NULL OR version IS NULL THEN
        -- There is no stream, or the change got no version and that is told.
        RETURN;
    ELSIF octet_length(head) + octet_length(row_text) < 7999 THEN
        message := head || ' ' || row_text;
    ELSIF head IS NOT NULL AND octet_length(row_text) <= 1048576 AND to_regclass('oversize_changes') IS NOT NULL THEN
        -- Where the sequence was set back there may be one of its version.
        INSERT INTO oversize_changes VALUES (version, row_text)
            ON CONFLICT ON CONSTRAINT oversize_changes_pkey DO UPDATE
            SET message = excluded.message, created_at = excluded.created_at;
        message := head || ' +';
    END IF;
    PERFORM pg_notify(channel, message);
END $$;

-- Tells that a key is gone, and keeps the version of that. Not within a block that catches errors: each would be a
-- subtransaction with a number of its own, and a statement that deletes many rows would make every snapshot in the
-- cluster slower. What may fail here, beside a full disk, is looked at before.
CREATE FUNCTION rowcast_bury(channel text, relation oid, head text, version bigint, row_text text, id int, gone_key text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF head IS NOT NULL AND to_regclass('rowcast_tombstones') IS NOT NULL THEN
        INSERT INTO rowcast_tombstones (table_id, key, version) VALUES (id, gone_key, version) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM rowcast_tell(channel, relation, head, version, row_text);
END $$;

-- A TRUNCATE is one gap, however many rows it removes.
CREATE FUNCTION rowcast_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM rowcast_gap(TG_RELID, 'truncated');
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- As in 0003_streams.sql, for the tables too, and where there are no products.
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
    UPDATE rowcast_stream SET epoch = rowcast_random_epoch(), triggers = rowcast_triggers() RETURNING * INTO stream;
    PERFORM pg_notify(stream.channel, format('epoch %s', stream.epoch));
    RETURN stream.epoch;
END $$;

DO $$
DECLARE
    name text;
    grantee text;
BEGIN
    FOREACH name IN ARRAY ARRAY['rowcast_gap(oid, text)', 'rowcast_sendable(text)',
        'rowcast_tell(text, oid, text, bigint, text)', 'rowcast_bury(text, oid, text, bigint, text, int, text)', 'rowcast_truncated()',
        'rowcast_renew_epoch(bigint, bigint)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
    END LOOP;
    ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET lock_timeout = '2s';
    ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET row_security = off;

    -- The roles of servers are those that may read the stream.
    FOR grantee IN SELECT DISTINCT acl.grantee::regrole::text
        FROM pg_class, aclexplode(relacl) AS acl
        WHERE oid = 'rowcast_stream'::regclass AND acl.grantee NOT IN (relowner, 0) AND acl.privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON rowcast_tables TO %s', grantee);
        EXECUTE format('GRANT SELECT, UPDATE, DELETE ON rowcast_tombstones TO %s', grantee);
    END LOOP;
END $$;
