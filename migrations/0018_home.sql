-- What is another history though triggers, versions and the timeline are the same: the database is another one, which took the
-- place of that in which the epoch began, or the rows of products changed, or were told of by nobody, without a change of their
-- triggers.

-- The database that this is: its cluster, by the number that was drawn when that was made, and its own there. A copy of a database
-- has the triggers of the original, to the number of the transaction that made them, and a dump that is restored into a fresh
-- cluster may. NULL where that cannot be known.
CREATE FUNCTION rowcast_home() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN format('%s %s', (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid FROM pg_database WHERE datname = current_database()));
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- That in which the epoch began.
ALTER TABLE rowcast_stream ADD COLUMN home text;
UPDATE rowcast_stream SET home = rowcast_home();

-- As in 0017_true_readers.sql, and `home`.
CREATE OR REPLACE FUNCTION rowcast_replaced() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT CASE
        WHEN counted.last_value <> versions_below THEN 'below'
        WHEN (SELECT seqcache <> 1 FROM pg_sequence WHERE seqrelid = 'product_versions'::regclass) THEN 'cache'
        WHEN timeline <> rowcast_timeline() THEN 'timeline'
        WHEN home <> rowcast_home() THEN 'home'
    END FROM rowcast_versions_below AS counted, rowcast_stream
$$;

-- As in 0017_true_readers.sql, with the home.
CREATE OR REPLACE FUNCTION rowcast_renew_epoch(expected bigint, floor bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '2s' SET row_security = off AS $$
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
    highest := greatest(highest, (SELECT last_value FROM product_versions), (SELECT max(version) FROM rowcast_tombstones));
    IF (SELECT seqcache <> 1 FROM pg_sequence WHERE seqrelid = 'product_versions'::regclass) THEN
        -- A sequence that is begun anew has another file, and sessions forget what they have drawn ahead of the last one.
        EXECUTE format('ALTER SEQUENCE product_versions CACHE 1 RESTART WITH %s', highest);
    END IF;
    PERFORM setval('product_versions', highest);
    UPDATE rowcast_served SET epoch = NULL;
    -- Nobody draws meanwhile: all tables are locked.
    UPDATE rowcast_stream SET epoch = rowcast_random_epoch(), triggers = rowcast_triggers(),
        versions_below = (SELECT last_value FROM rowcast_versions_below), timeline = rowcast_timeline(), home = rowcast_home()
        RETURNING * INTO stream;
    PERFORM pg_notify(stream.channel, format('epoch %s', stream.epoch));
    RETURN stream.epoch;
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['rowcast_replaced()', 'rowcast_renew_epoch(bigint, bigint)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;

DO $make$
DECLARE
    is_untouched boolean := (SELECT triggers = rowcast_triggers() FROM rowcast_stream);
BEGIN
    IF to_regproc('product_before') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE $function$
-- As in 0003_streams.sql, with the functions that the triggers call, and the columns that are told: whatever alters one of these
-- may leave rows that are other ones, or changes that nobody was told.
CREATE OR REPLACE FUNCTION rowcast_triggers() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws('; ',
        (SELECT string_agg(concat_ws(' ', tgname, tgenabled, pg_trigger.xmin, pg_proc.xmin), ', ' ORDER BY tgname)
            FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
            WHERE tgrelid = to_regclass('products') AND tgname = ANY (rowcast_trigger_names())),
        (SELECT string_agg(concat_ws(' ', proname, xmin), ', ' ORDER BY proname, oid) FROM pg_proc
            WHERE proname IN ('product_notify', 'product_insert_needs_a_newer_version')
            AND pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('products'))),
        (SELECT attrelid || ' ' || string_agg(concat_ws(' ', attname, attnum, xmin), ', ' ORDER BY attname) FROM pg_attribute
            WHERE attrelid = to_regclass('products') AND attname IN ('product_id', 'manufacturer', 'price_per_unit',
                'units_available', 'product_name', 'version') GROUP BY attrelid))
$$;
    $function$;
    -- That it is noted in another form is no new history, unless the form before has found one.
    UPDATE rowcast_stream SET triggers = rowcast_triggers() WHERE is_untouched;
END $make$;
