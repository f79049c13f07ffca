-- A sequence of versions that was set back is found by the next look of a server, unless it is above what was heard again by
-- then: by many changes, or by a table's trigger that lifts it. What changed meanwhile under a version below the one that
-- its row had is old to every reader. So whatever draws such a version counts it, in a sequence of its own, whose count
-- stays even where the transaction is rolled back: an epoch begins where the count is another than when the last one did.

CREATE SEQUENCE rowcast_versions_below MINVALUE 0;
SELECT setval('rowcast_versions_below', 0);

ALTER TABLE rowcast_stream ADD COLUMN versions_below bigint NOT NULL DEFAULT 0;

-- Counts a version that was drawn below one that is there; two at once may count as one. It never fails the write. Not
-- by nextval, which after a crash of the database goes on up to 32 further.
CREATE FUNCTION rowcast_version_below() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM setval('rowcast_versions_below', (SELECT last_value + 1 FROM rowcast_versions_below));
EXCEPTION WHEN OTHERS THEN
    NULL;
END $$;

-- Returns whether one was drawn since the epoch began. Servers need no right to the sequence.
CREATE FUNCTION rowcast_has_version_below() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT counted.last_value <> versions_below FROM rowcast_versions_below AS counted, rowcast_stream
$$;

-- As in 0007_table_epochs.sql, with the count.
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
    -- Nobody draws meanwhile: all tables are locked.
    UPDATE rowcast_stream SET epoch = rowcast_random_epoch(), triggers = rowcast_triggers(),
        versions_below = (SELECT last_value FROM rowcast_versions_below)
        RETURNING * INTO stream;
    PERFORM pg_notify(stream.channel, format('epoch %s', stream.epoch));
    RETURN stream.epoch;
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['rowcast_version_below()', 'rowcast_has_version_below()',
        'rowcast_renew_epoch(bigint, bigint)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
    -- Whoever may call it has epochs begin. Triggers call it with the rights of their owners.
    REVOKE EXECUTE ON FUNCTION rowcast_version_below() FROM PUBLIC;
    ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET lock_timeout = '2s';
    ALTER FUNCTION rowcast_renew_epoch(bigint, bigint) SET row_security = off;
END $$;

DO $make$
BEGIN
    IF to_regproc('product_before') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE $function$
-- As in 0001_products.sql, and counts a version that is not above the row's. Its transaction holds the row's lock, so that
-- without a sequence that was set back there is none.
CREATE OR REPLACE FUNCTION product_before() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    drawn bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- The transaction gets its number before the row gets its version: a tombstone's horizon relies on it.
        PERFORM pg_current_xact_id();
    ELSIF TG_OP = 'DELETE' OR NEW.product_id IS DISTINCT FROM OLD.product_id THEN
        drawn := nextval('product_versions');
        INSERT INTO product_tombstones (product_id, version) VALUES (OLD.product_id, drawn)
            ON CONFLICT (product_id) DO UPDATE SET version = excluded.version, horizon = NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        NEW.version := nextval('product_versions');
        drawn := coalesce(drawn, NEW.version);
    END IF;
    IF TG_OP <> 'INSERT' AND drawn <= OLD.version THEN
        BEGIN
            PERFORM rowcast_version_below();
        EXCEPTION WHEN OTHERS THEN
            -- The triggers' owner may not: the next look finds what it can.
            NULL;
        END;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$;
    $function$;
    EXECUTE $function$
-- As in 0001_products.sql, and counts likewise where the product's deletion has a version that was not drawn since.
CREATE OR REPLACE FUNCTION product_insert_needs_a_newer_version(id bigint, drawn bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    buried bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN true;
    END IF;
    DELETE FROM product_tombstones WHERE product_id = id RETURNING version INTO buried;
    IF buried > drawn THEN
        IF buried > (SELECT last_value FROM product_versions) THEN
            BEGIN
                PERFORM rowcast_version_below();
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        END IF;
        RETURN true;
    END IF;
    RETURN false;
END $$;
    $function$;
    EXECUTE format('ALTER FUNCTION product_before() SET search_path = %I, pg_temp', current_schema());
END $make$;
